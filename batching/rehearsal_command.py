"""What `quick_batch_test` and `live_batch_test` have in common: options, table, verdict."""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.rehearsal import Reply, describe_strangers
from batching.rehearsal_client import RehearsalClient, Unreachable, open_client

COLUMNS = ("request", "priority", "status", "batch", "size", "waited", "answered after")
WIDTHS = (12, 8, 24, 8, 4, 9, 14)


class RehearsalCommand(BaseCommand):
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default=f"http://127.0.0.1:{settings.PORT}")
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer")
        parser.add_argument(
            "--api-key",
            default=os.environ.get("LLMBATCH_API_KEY", ""),
            help="a staff key, where API_ACCESS=key (default: LLMBATCH_API_KEY)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            findings = asyncio.run(self._run(options))
        except Unreachable as error:
            raise CommandError(str(error)) from None
        if findings:
            raise CommandError("The batches are not as the rules say.")
        self.stdout.write(self.style.SUCCESS("The batches are as the rules say."))

    async def _run(self, options: dict[str, Any]) -> list[str]:
        url, key, timeout_s = options["url"], options["api_key"], options["timeout"]
        async with open_client(url, api_key=key, timeout_s=timeout_s, told=self.hear) as client:
            return await self.rehearse(client, options)

    def hear(self, reply: Reply) -> None:
        """A reply came."""

    @abstractmethod
    async def rehearse(self, client: RehearsalClient, options: dict[str, Any]) -> list[str]:
        """Everything that is not as the rules say."""

    def write_table(self, replies: Sequence[Reply]) -> None:
        self._write_row(COLUMNS)
        self._write_row(["-" * width for width in WIDTHS])
        for reply in sorted(replies, key=lambda reply: (reply.batch_id, reply.request_id)):
            self._write_row(_describe(reply))

    def write_findings(self, replies: Sequence[Reply], findings: Sequence[str]) -> None:
        if strangers := describe_strangers(replies):
            self.stdout.write(self.style.WARNING(f"  {strangers}"))
        for finding in findings:
            self.stdout.write(self.style.ERROR(f"  {finding}"))

    def _write_row(self, cells: Sequence[object]) -> None:
        line = "  ".join(str(cell).ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
        self.stdout.write(line.rstrip())


def _describe(reply: Reply) -> Sequence[object]:
    if reply.status != 200:
        told = f"{reply.status or 'no answer'} {reply.code}"
        return (reply.request_id, reply.priority, told, "", "", "", "")
    waited, answered = f"{reply.queue_ms} ms", f"{reply.latency_ms} ms"
    return (
        reply.request_id, reply.priority, "200", reply.batch_id, reply.batch_size, waited, answered
    )  # fmt: skip
