"""What `quick_batch_test` and `live_batch_test` have in common: options, table, decision."""

import asyncio
import os
import signal
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.smoke_test.client import RehearsalClient, Unreachable, open_client
from batching.smoke_test.rules import Reply, describe_strangers

COLUMNS = ("request", "priority", "batch", "size", "waited", "answered after", "status")
FORM = "{:12} {:8} {:>7} {:>5} {:>9} {:>15}  {}"
INTERRUPTED = 130
"""the exit status of what Ctrl-C ended"""


class RehearsalCommand(BaseCommand):
    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    name: str
    """what its usernames begin with"""

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
        except asyncio.CancelledError:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        if findings:
            raise CommandError("The batches are not as the rules say.")
        self.stdout.write(self.style.SUCCESS("The batches are as the rules say."))

    async def _run(self, options: dict[str, Any]) -> list[str]:
        _stop_on_signals()
        key, timeout_s = options["api_key"], options["timeout"]
        async with open_client(
            options["url"], name=self.name, api_key=key, timeout_s=timeout_s, told=self.hear
        ) as client:
            return await self.rehearse(client, options)

    def hear(self, reply: Reply) -> None:
        """A reply came."""

    @abstractmethod
    async def rehearse(self, client: RehearsalClient, options: dict[str, Any]) -> list[str]:
        """Everything that is not as the rules say."""

    def write_table(self, replies: Sequence[Reply]) -> None:
        self.stdout.write(FORM.format(*COLUMNS))
        for reply in sorted(replies, key=lambda r: r.answer.batch_id if r.answer else 0):
            self.stdout.write(FORM.format(*_describe(reply)))

    def write_findings(self, replies: Sequence[Reply], findings: Sequence[str]) -> None:
        if strangers := describe_strangers(replies):
            self.stdout.write(self.style.WARNING(f"  {strangers}"))
        for finding in findings:
            self.stdout.write(self.style.ERROR(f"  {finding}"))


def _stop_on_signals() -> None:
    """The first signal cancels this task; further ones must not cut off what it then restores."""
    loop, task, asked = asyncio.get_running_loop(), asyncio.current_task(), []
    assert task is not None

    def stop() -> None:
        if not asked:
            asked.append(True)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _describe(reply: Reply) -> Sequence[object]:
    request, answer = reply.request, reply.answer
    if answer is None:
        told = f"{reply.status or 'no reply'} {reply.code}"
        return (request.id, request.priority, "–", "–", "–", "–", told)
    times = (f"{answer.queue_ms:,} ms", f"{answer.latency_ms:,} ms")
    return (request.id, request.priority, answer.batch_id, answer.batch_size, *times, reply.status)
