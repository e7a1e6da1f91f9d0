"""A model inside the process: Gemini's wire format without Gemini.

It sits below the real SDK as its HTTP transport, reads the JSON that would go out, and answers with
the JSON or the event stream that would come back, in the time a model would take. It knows the
protocol and nothing of the gateway's engine.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

import httpx2

from batching.llm.simulated.answers import MARK, answer_prompt
from batching.llm.simulated.calls import SimulatedCall, parse_call
from batching.llm.simulated.faults import NO_FAULT, Fault, Script
from batching.llm.simulated.replies import make_reply
from batching.llm.simulated.wire import Ending, Pace, Piece, Reply, hang, play

__all__ = ["MARK", "Pace", "Responder", "SimulatedTransport", "answer_prompt"]

KEPT_CALLS = 1000
USUAL_PACE = Pace()


class Responder:
    """Decides each call's reply and remembers the calls; the edges carry the bytes.

    `script` gives a fault or None for each call: a function of the call, or one entry per call in
    turn and none after the last. Equal seeds give equal bytes for equal calls.
    """

    def __init__(
        self,
        script: Script | Iterable[Fault | None] | None = None,
        *,
        seed: int = 0,
        pace: Pace = USUAL_PACE,
        clock: Callable[[], float] = time.monotonic,
        kept_calls: int = KEPT_CALLS,
    ) -> None:
        self.calls: list[SimulatedCall] = []
        """the last ones, the oldest first"""
        self.count = 0
        self.running = 0
        self.most_running = 0
        self._script = script if callable(script) else _take_turns(iter(script or ()))
        self._seed = seed
        self.pace = pace
        self._clock = clock
        self._kept_calls = kept_calls

    def respond(
        self, *, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[SimulatedCall, Reply]:
        """The call is running until `end` is told of it."""
        self.count += 1
        call = parse_call(
            self.count, method=method, target=target, headers=headers, content=content
        )
        call.started = self._clock()
        self._remember(call)
        fault = self._script(call) or NO_FAULT
        call.fault = fault.name
        return call, make_reply(call, fault=fault, seed=self._seed, pace=self.pace)

    def end(self, call: SimulatedCall, state: str) -> None:
        """Only the first end counts."""
        if call.ended is None:
            call.ended = self._clock()
            call.state = state
            self.running -= 1

    def _remember(self, call: SimulatedCall) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.calls.append(call)
        if len(self.calls) > 2 * self._kept_calls:
            del self.calls[: len(self.calls) - self._kept_calls]


def _take_turns(faults: Iterator[Fault | None]) -> Script:
    return lambda call: next(faults, None)


class SimulatedTransport(httpx2.AsyncBaseTransport):
    """The SDK's transport: `async_client_args={"transport": SimulatedTransport()}`."""

    def __init__(
        self,
        script: Script | Iterable[Fault | None] | None = None,
        *,
        seed: int = 0,
        pace: Pace = USUAL_PACE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        kept_calls: int = KEPT_CALLS,
    ) -> None:
        self._responder = Responder(
            script=script, seed=seed, pace=pace, clock=clock, kept_calls=kept_calls
        )
        self._sleep = sleep
        self._clock = clock

    @property
    def calls(self) -> list[SimulatedCall]:
        return self._responder.calls

    @property
    def most_running(self) -> int:
        """How many calls ran at once, at most."""
        return self._responder.most_running

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call, reply = self._responder.respond(
            method=request.method,
            target=request.url.raw_path.decode("ascii", "replace"),
            headers=request.headers,
            content=await request.aread(),
        )
        stream = _Stream(self._carry(request, call, reply), on_close=self._close_call(call))
        try:
            await self._wait_for_headers(request, call, reply)
        except BaseException:
            await stream.aclose()
            raise
        headers = {"x-simulated-call": str(call.number)} | reply.headers
        return httpx2.Response(reply.status, headers=headers, stream=stream, request=request)

    def _close_call(self, call: SimulatedCall) -> Callable[[], None]:
        return lambda: self._responder.end(call, "abandoned")

    async def _wait_for_headers(
        self, request: httpx2.Request, call: SimulatedCall, reply: Reply
    ) -> None:
        """They come with the first bytes, if they come."""
        if reply.silent:
            await self._end(request, call, reply)
        elif reply.pieces:
            empty = Piece(b"", reply.pieces[0].at_s)
            async for _ in self._play(call, [empty]):
                pass

    async def _carry(
        self, request: httpx2.Request, call: SimulatedCall, reply: Reply
    ) -> AsyncIterator[bytes]:
        async for data in self._play(call, reply.pieces):
            yield data
        await self._end(request, call, reply)

    def _play(self, call: SimulatedCall, pieces: list[Piece]) -> AsyncIterator[bytes]:
        return play(pieces, started=call.started, sleep=self._sleep, clock=self._clock)

    async def _end(self, request: httpx2.Request, call: SimulatedCall, reply: Reply) -> None:
        """Returns if the reply is complete, else raises what a network would."""
        if reply.ending is Ending.HANG:
            await _hang_until_read_timeout(request)
        complete = reply.ending is Ending.COMPLETE
        self._responder.end(call, "complete" if complete else "broken")
        match reply.ending:
            case Ending.RESET:
                raise httpx2.ReadError("Connection reset by peer", request=request)
            case Ending.EARLY_CLOSE:
                raise httpx2.RemoteProtocolError("Server disconnected", request=request)
            case Ending.REFUSED:
                raise httpx2.ConnectError("Connection refused", request=request)
            case Ending.CANCELLED:
                raise asyncio.CancelledError


async def _hang_until_read_timeout(request: httpx2.Request) -> None:
    """The client's own timeout ends it, as over a network; without one, its cancellation."""
    limits = request.extensions.get("timeout") or {}
    try:
        async with asyncio.timeout(limits.get("read")):
            await hang()
    except TimeoutError:
        raise httpx2.ReadTimeout("", request=request) from None


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes], *, on_close: Callable[[], None]) -> None:
        self._pieces = pieces
        self._on_close = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        self._on_close()
