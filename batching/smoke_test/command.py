"""The base of `quick_batch_test` and `live_batch_test`: options, table and exit status."""

import asyncio
import os
import signal
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.smoke_test.client import SmokeTestClient, Unreachable, open_http
from batching.smoke_test.rules import Reply, describe_other_traffic

COLUMNS = ("request", "priority", "batch", "size", "waited", "answered after", "status")
ROW_FORMAT = "{:12} {:8} {:>7} {:>5} {:>9} {:>15}  {}"
# The exit status of a command that Ctrl-C ended.
INTERRUPTED = 130


class SmokeTestCommand(BaseCommand):
    requires_system_checks: list[str] = []
    requires_migrations_checks = False
    # The prefix of its usernames.
    name: str

    def add_arguments(self, parser: CommandParser) -> None:
        url = f"http://127.0.0.1:{settings.PORT}"
        parser.add_argument("--url", default=url, help=f"the gateway's URL ({url})")
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="seconds to wait for one answer (60)"
        )
        parser.add_argument(
            "--api-key",
            default=os.environ.get("LLMBATCH_API_KEY", ""),
            help="a staff key, needed if API_ACCESS=key (default: LLMBATCH_API_KEY)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            findings = asyncio.run(self._run(options))
        except Unreachable as error:
            raise CommandError(str(error)) from None
        except asyncio.CancelledError:
            raise CommandError("Interrupted.", returncode=INTERRUPTED) from None
        if findings:
            raise CommandError("The batches violate the rules.")
        self.stdout.write(self.style.SUCCESS("The batches obey the rules."))

    async def _run(self, options: dict[str, Any]) -> list[str]:
        _cancel_on_signals()
        url, key, timeout_s = options["url"], options["api_key"], options["timeout"]
        async with open_http(url, api_key=key, timeout_s=timeout_s) as http:
            return await self.run_test(SmokeTestClient(http, self.name), options)

    @abstractmethod
    async def run_test(self, client: SmokeTestClient, options: dict[str, Any]) -> list[str]:
        """Sends requests, and returns a sentence for each violation of the rules."""

    def write_table(self, replies: Sequence[Reply]) -> None:
        self.stdout.write(ROW_FORMAT.format(*COLUMNS))
        for reply in sorted(replies, key=lambda r: r.answer.batch_id if r.answer else 0):
            self.stdout.write(ROW_FORMAT.format(*_describe(reply)))

    def write_findings(self, replies: Sequence[Reply], findings: Sequence[str]) -> None:
        if other_traffic := describe_other_traffic(replies):
            self.stdout.write(self.style.WARNING(f"  {other_traffic}"))
        for finding in findings:
            self.stdout.write(self.style.ERROR(f"  {finding}"))


def _cancel_on_signals() -> None:
    """Lets the first signal cancel this task. Later signals must not interrupt its clean-up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cancel)


def _describe(reply: Reply) -> Sequence[object]:
    request, answer = reply.request, reply.answer
    if answer is None:
        status = f"{reply.status or 'no reply'} {reply.code}"
        return (request.id, request.priority, "–", "–", "–", "–", status)
    times = (f"{answer.queue_ms:,} ms", f"{answer.latency_ms:,} ms")
    return (request.id, request.priority, answer.batch_id, answer.batch_size, *times, reply.status)
