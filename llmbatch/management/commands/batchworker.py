"""Runs batches for web processes that were started with `serve --no-consumer`."""

import asyncio
import os
import signal
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.process.runtime import Runtime
from llmbatch.management.commands.serve import use_uvloop
from llmbatch.migration_check import demand_migrations


class Command(BaseCommand):
    help = "Runs batches beside other workers, over Postgres and Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--name",
            default="",
            help="stays the same over restarts, so that what a killed worker held is taken back"
            " after half a lease (default: made of the host and the process id)",
        )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if not settings.REDIS_URL:
            raise CommandError("A worker needs REDIS_URL: it hears of requests over Redis.")
        demand_migrations()
        use_uvloop()
        asyncio.run(self._work(name or f"{socket.gethostname()}:{os.getpid()}"))

    async def _work(self, name: str) -> None:
        runtime = Runtime(name=name, takes_requests=False)
        stopping, hurrying = asyncio.Event(), asyncio.Event()

        def stop() -> None:
            (hurrying if stopping.is_set() else stopping).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await runtime.start()
        self.stdout.write(f"Worker {name} runs. Stop it with Ctrl-C; twice to stop it at once.")
        await stopping.wait()
        ends = [
            asyncio.create_task(runtime.consumer.finish_running(), name="finish"),
            asyncio.create_task(hurrying.wait(), name="hurry"),
        ]
        await asyncio.wait(ends, timeout=settings.DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await runtime.stop()
