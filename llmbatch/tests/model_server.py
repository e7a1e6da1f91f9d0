"""The simulated model behind a real socket: HTTP/1.1, chunked, with faults of the connection too.

In a test `async with ModelServer() as server`, or `run_model_server()` for a process of its own. By
hand `python -m llmbatch.tests.model_server --port 0`; its first line is its URL. `GET /calls` tells
what was asked, `DELETE /calls` forgets it.
"""

import argparse
import asyncio
import contextlib
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Self

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault, Script
from batching.llm.simulated.transport import USUAL_PACE, Responder
from batching.llm.simulated.wire import Ending, Pace, Reply, make_json_reply, play
from batching.tests.faults.catalogue import FAULTS, MarkedFaults, find_fault

BACKLOG = 8192
MAX_HEAD_BYTES = 64 * 1024
LISTED_CALLS = 5000
RESET_PAUSE_S = 0.05
"""a reset takes away what its receiver has not read yet, so it leaves time to read"""
BODILESS = (204, 304)


class _BrokenOff(Exception):
    """The connection is to end without a further byte."""


class ModelServer:
    """Prompts choose their faults by markers unless a `script` does."""

    def __init__(
        self,
        script: Script | Iterable[Fault | None] | None = None,
        *,
        seed: int = 0,
        pace: Pace = USUAL_PACE,
        port: int = 0,
        kept_calls: int = 100_000,
    ) -> None:
        self.responder = Responder(
            script=MarkedFaults() if script is None else script,
            seed=seed,
            pace=pace,
            kept_calls=kept_calls,
        )
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Condition()
        self.connections = 0
        """how many there have been"""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, backlog=BACKLOG, limit=MAX_HEAD_BYTES
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def calls(self) -> list[SimulatedCall]:
        return self.responder.calls

    @property
    def sizes(self) -> list[int]:
        """How many prompts each call held."""
        return [len(call.prompts) for call in self.calls if call.generates]

    async def wait_for_calls(self, count: int) -> None:
        """Returns when so many have come in."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.responder.count >= count)

    async def wait_until_idle(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.responder.running == 0)

    def forget(self) -> None:
        """The calls so far; those that still run end as they would."""
        responder = self.responder
        responder.calls.clear()
        responder.count, responder.most_running = 0, responder.running

    async def _tell_change(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        task.add_done_callback(self._tasks.discard)
        try:
            while await self._serve_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, _BrokenOff):
            pass  # either side ended the connection: nothing more can be said on it
        except (ValueError, asyncio.LimitOverrunError):
            writer.write(_write_head(Reply(400, {"connection": "close"})) + b"0\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """False if the connection must not be used again."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, headers = _read_head(head)
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if target.split("?")[0] == "/calls":
            reply = self._answer_about_calls(method)
            writer.write(_write_head(reply) + _write_chunk(reply.body) + b"0\r\n\r\n")
            return True
        call, reply = self.responder.respond(
            method=method, target=target, headers=headers, content=content
        )
        await self._tell_change()
        try:
            await self._carry(reader, writer, call, reply)
        finally:
            self.responder.end(call, "abandoned")
            await self._tell_change()
        return True

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        call: SimulatedCall,
        reply: Reply,
    ) -> None:
        begun = False
        async for data in play(
            reply.pieces, started=call.started, sleep=asyncio.sleep, clock=time.monotonic
        ):
            if reader.at_eof():
                raise _BrokenOff
            writer.write((b"" if begun else _write_head(reply)) + _write_chunk(data))
            begun = True
            await writer.drain()
        if not begun and not reply.silent:
            writer.write(_write_head(reply))
        await self._end(reader, writer, call, reply)

    async def _end(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        call: SimulatedCall,
        reply: Reply,
    ) -> None:
        if reply.ending is Ending.HANG:
            await reader.read()  # until the client gives up
            raise _BrokenOff
        self.responder.end(call, "complete" if reply.ending is Ending.COMPLETE else "broken")
        if reply.ending is Ending.COMPLETE:
            writer.write(b"" if reply.status in BODILESS else b"0\r\n\r\n")
            await writer.drain()
            return
        await writer.drain()
        if reply.ending is not Ending.EARLY_CLOSE:
            await asyncio.sleep(RESET_PAUSE_S)
            _reset(writer)
        raise _BrokenOff

    def _answer_about_calls(self, method: str) -> Reply:
        responder = self.responder
        document = {
            "total": responder.count,
            "running": responder.running,
            "most_running": responder.most_running,
            "calls": [describe_call(call) for call in responder.calls[-LISTED_CALLS:]],
        }
        if method == "DELETE":
            self.forget()
        return make_json_reply(200, document)


def describe_call(call: SimulatedCall) -> dict[str, Any]:
    """A recorded call as JSON; of the key only its last four characters."""
    return {
        "number": call.number,
        "model": call.model,
        "action": call.action,
        "keys": call.keys,
        "prompts": call.prompts,
        "system": call.system,
        "max_output_tokens": call.max_output_tokens,
        "body": call.body,
        "api_key": call.headers.get("x-goog-api-key", "")[-4:],
        "path": call.path,
        "fault": call.fault,
        "state": call.state,
        "started": call.started,
        "ended": call.ended,
    }


def _read_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    request, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = request.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return method, target, {name.lower(): value.strip() for name, _, value in pairs}


def _write_head(reply: Reply) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = ""
    fields = {} if reply.status in BODILESS else {"transfer-encoding": "chunked"}
    fields |= reply.headers
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{k}: {v}" for k, v in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _write_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN: a connection that lingers for no time is torn down."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def run_model_server(*arguments: str) -> Iterator[str]:
    """A server process with these command line arguments; gives its URL."""
    command = [sys.executable, "-m", "llmbatch.tests.model_server", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not re.fullmatch(r"http://127\.0\.0\.1:\d+", url):
                raise RuntimeError("The model server did not start.")
            yield url
        finally:
            process.terminate()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serves a simulated Gemini.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model-time", type=float, help="seconds that every whole reply takes")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="strikes every call's first item")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    script: Script | None = None
    if options.fault:
        fault = find_fault(options.fault)
        script = lambda call: fault  # noqa: E731
    pace = Pace(total_s=options.model_time) if options.model_time is not None else USUAL_PACE
    async with ModelServer(
        script=script, seed=options.seed, pace=pace, port=options.port
    ) as server:
        print(server.url, flush=True)  # noqa: T201
        await asyncio.get_running_loop().create_future()


def main() -> None:
    import uvloop

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_run(_parse_arguments()))


if __name__ == "__main__":
    main()
