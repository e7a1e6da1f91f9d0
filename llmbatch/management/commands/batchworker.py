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
    help = "Runs batches as one of several workers. Needs Postgres and Redis."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--name",
            default="",
            help="a name that stays the same after a restart, so that a killed worker's requests"
            " are taken over after half a lease (default: the host's name and the process id)",
        )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if not settings.REDIS_URL:
            raise CommandError("A worker needs REDIS_URL: Redis notifies it of requests.")
        demand_migrations()
        use_uvloop()
        asyncio.run(self._work(name or f"{socket.gethostname()}:{os.getpid()}"))

    async def _work(self, name: str) -> None:
        runtime = Runtime(name=name, takes_requests=False)
        stopping, aborting = asyncio.Event(), asyncio.Event()

        def stop() -> None:
            (aborting if stopping.is_set() else stopping).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await runtime.start()
        self.stdout.write(f"Worker {name} runs. Stop it with Ctrl-C; twice to stop it at once.")
        await stopping.wait()
        ends = [
            asyncio.create_task(runtime.consumer.finish_running(), name="finish"),
            asyncio.create_task(aborting.wait(), name="abort"),
        ]
        await asyncio.wait(ends, timeout=settings.DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await runtime.stop()
