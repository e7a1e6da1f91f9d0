"""Serves the gateway: the web server and the batch consumer in one process."""

import asyncio
import gc
import logging
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from batching.management.arguments import whole_number
from llmbatch.migration_check import demand_migrations
from llmbatch.reach import describe_reach, format_url

logger = logging.getLogger("batching")


class Command(BaseCommand):
    help = "Serves the gateway: the web server, and the batch consumer in the same process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST, help="address to listen on")
        port = whole_number(1, 65_535)
        parser.add_argument("--port", type=port, default=settings.PORT, help="port to listen on")
        parser.add_argument(
            "--no-consumer",
            action="store_true",
            help="run no batches; `./gateway batchworker` runs them (needs REDIS_URL)",
        )

    def handle(self, *args: Any, host: str, port: int, no_consumer: bool, **options: Any) -> None:
        if no_consumer and not settings.REDIS_URL:
            raise CommandError("--no-consumer needs REDIS_URL to reach the workers.")
        demand_migrations()
        use_uvloop()
        # Importing Daphne's server installs its reactor on the event loop chosen above.
        from batching.process.runtime import configure_runtime, get_runtime
        from llmbatch.asgi import application
        from llmbatch.server.connections import raise_file_limit
        from llmbatch.server.daphne import DrainingServer

        raise_file_limit()
        configure_runtime(name=f"{socket.gethostname()}:{port}", runs_batches=not no_consumer)
        lines = [f"Serving on {format_url(host, port)} - stop with Ctrl-C.", *describe_reach(host)]
        connection.close()
        server = DrainingServer(
            application,
            host=host,
            port=port,
            start=get_runtime,
            on_listening=lambda: self.stdout.write("\n".join(lines)),
        )
        gc.collect()
        gc.freeze()  # Objects loaded so far stay until the process ends.
        gc.set_threshold(20_000, 50, 100)
        server.run()
        if server.failure:
            self.stderr.write(server.failure)
            raise SystemExit(1)


def use_uvloop() -> None:
    try:
        import uvloop
    except ImportError:
        logger.info("uvloop is not installed; the standard event loop is used.")
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
