"""An HTTP transport that answers the SDK's requests as Gemini would.

It replaces the network below the real SDK: it parses the request and sends the JSON or the event
stream that Gemini would send, in the time that a model would take. It knows the protocol, but not
the gateway's engine.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

import httpx2

from batching.llm.simulated.calls import SimulatedCall, parse_call
from batching.llm.simulated.faults import NO_FAULT, Fault, Script
from batching.llm.simulated.replies import make_reply
from batching.llm.simulated.wire import Ending, Pace, Piece, Reply, hang, play

KEPT_CALLS = 1000
USUAL_PACE = Pace()


class Responder:
    """Makes the reply to each call and keeps the last calls, the oldest first; sends nothing.

    `script` is a function that returns the fault of a call or None, or an iterable with one entry
    per call. Equal seeds lead to equal bytes for equal calls.
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
        self.count = 0
        self.running = 0
        self.most_running = 0
        faults = iter(()) if script is None or callable(script) else iter(script)
        self._script = script if callable(script) else lambda call: next(faults, None)
        self._seed = seed
        self.pace = pace
        self._clock = clock
        self._kept_calls = kept_calls

    def respond(
        self, *, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[SimulatedCall, Reply]:
        """Returns the call and its reply; the call runs until `end` is called."""
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
        """The largest number of calls that ran at once."""
        return self._responder.most_running

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call, reply = self._responder.respond(
            method=request.method,
            target=request.url.raw_path.decode("ascii", "replace"),
            headers=request.headers,
            content=await request.aread(),
        )
        stream = _Stream(self._stream_body(request, call, reply), on_close=self._close_call(call))
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
        """Waits until the headers are sent, which is with the first bytes of the body."""
        if reply.silent:
            await self._end(request, call, reply)
        elif reply.pieces:
            empty = Piece(b"", reply.pieces[0].at_s)
            async for _ in self._play(call, [empty]):
                pass

    async def _stream_body(
        self, request: httpx2.Request, call: SimulatedCall, reply: Reply
    ) -> AsyncIterator[bytes]:
        async for data in self._play(call, reply.pieces):
            yield data
        await self._end(request, call, reply)

    def _play(self, call: SimulatedCall, pieces: list[Piece]) -> AsyncIterator[bytes]:
        return play(pieces, started=call.started, sleep=self._sleep, clock=self._clock)

    async def _end(self, request: httpx2.Request, call: SimulatedCall, reply: Reply) -> None:
        """Returns if the reply is complete, else raises what a broken network would."""
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
    """Ends by the client's read timeout, as on a network, or by cancellation."""
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
