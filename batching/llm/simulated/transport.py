"""An HTTP transport that answers the SDK's requests as Gemini would.

It replaces the network below the real SDK: it parses the request and sends the JSON or the event
stream that Gemini would send, in the time that a model would take. It knows the protocol, but not
the gateway's engine.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import httpx2

from batching.llm.simulated.calls import SimulatedCall, parse_call
from batching.llm.simulated.faults import NO_FAULT, Script
from batching.llm.simulated.replies import make_reply
from batching.llm.simulated.wire import Ending, Pace, Piece, Reply, play

USUAL_PACE = Pace()


class Responder:
    """Makes the reply to each call; sends and keeps nothing.

    `script` returns the fault of a call or None. Equal seeds lead to equal bytes for equal calls.
    """

    def __init__(
        self,
        script: Script = lambda call: None,
        *,
        seed: int = 0,
        pace: Pace = USUAL_PACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = 0
        self.pace = pace
        self.clock = clock
        self._script = script
        self._seed = seed

    def respond(
        self, *, target: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[SimulatedCall, Reply]:
        self.count += 1
        call = parse_call(self.count, target=target, headers=headers, content=content)
        call.started = self.clock()
        fault = self._script(call) or NO_FAULT
        call.fault = fault.name
        return call, make_reply(call, fault=fault, seed=self._seed, pace=self.pace)


class SimulatedTransport(httpx2.AsyncBaseTransport):
    """The SDK's transport: `async_client_args={"transport": SimulatedTransport(Responder())}`."""

    def __init__(
        self, responder: Responder, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._responder = responder
        self._sleep = sleep

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call, reply = self._responder.respond(
            target=request.url.raw_path.decode("ascii", "replace"),
            headers=request.headers,
            content=await request.aread(),
        )
        body = _Body(request, call, reply, sleep=self._sleep, clock=self._responder.clock)
        try:
            await body.wait_for_headers()
        except BaseException:
            await body.aclose()
            raise
        headers = {"x-simulated-call": str(call.number)} | reply.headers
        return httpx2.Response(reply.status, headers=headers, stream=body, request=request)


class _Body(httpx2.AsyncByteStream):
    """Sends the reply to one call."""

    def __init__(
        self,
        request: httpx2.Request,
        call: SimulatedCall,
        reply: Reply,
        *,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._request = request
        self._call = call
        self._reply = reply
        self._sleep = sleep
        self._clock = clock

    async def wait_for_headers(self) -> None:
        """Waits until the headers are sent, which is with the first bytes of the body."""
        if self._reply.silent:
            await self._end()
        elif self._reply.pieces:
            async for _ in self._play([Piece(b"", self._reply.pieces[0].at_s)]):
                pass

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._play(self._reply.pieces):
            yield data
        await self._end()

    async def aclose(self) -> None:
        self._call.end("abandoned", self._clock())

    def _play(self, pieces: Sequence[Piece]) -> AsyncIterator[bytes]:
        return play(pieces, started=self._call.started, sleep=self._sleep, clock=self._clock)

    async def _end(self) -> None:
        """Returns if the reply is complete, else raises what a broken network would."""
        request, ending = self._request, self._reply.ending
        if ending is Ending.HANG:
            await self._hang_until_read_timeout()
        self._call.end("complete" if ending is Ending.COMPLETE else "broken", self._clock())
        match ending:
            case Ending.RESET:
                raise httpx2.ReadError("Connection reset by peer", request=request)
            case Ending.EARLY_CLOSE:
                raise httpx2.RemoteProtocolError("Server disconnected", request=request)
            case Ending.REFUSED:
                raise httpx2.ConnectError("Connection refused", request=request)
            case Ending.CANCELLED:
                raise asyncio.CancelledError

    async def _hang_until_read_timeout(self) -> None:
        """Ends by the client's read timeout, as on a network, or by cancellation."""
        limits = self._request.extensions.get("timeout") or {}
        try:
            async with asyncio.timeout(limits.get("read")):
                await asyncio.Event().wait()
        except TimeoutError:
            raise httpx2.ReadTimeout("", request=self._request) from None
