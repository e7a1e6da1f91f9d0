"""One open WebSocket: JSON objects in both directions, with limits on size, time and errors."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from io import BytesIO
from typing import Any

from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError

from batching.sockets.access import SocketRefused, Visitor
from settings_app.json_bodies import StrictJSONParser

# A client that reads nothing for this long is disconnected.
SEND_TIMEOUT_S = 10.0
# So many invalid frames in a row close the socket: not a JSON object, or refused by the endpoint.
MAX_BAD_FRAMES = 20
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
MAX_REASON = 120


class SocketClosed(Exception):
    """Nothing can be sent any more."""


class BadFrame(Exception):
    """A client's frame is not a JSON object."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Socket:
    """`async for document in socket` yields what the client sends until the connection ends.

    A send blocks while the client does not read, so a slow client also slows its sender.
    """

    def __init__(self, receive: Any, send: Any, visitor: Visitor) -> None:
        self._receive = receive
        self._send = send
        self.visitor = visitor
        self.closed = False
        self._busy = 0
        self._bad = 0

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            # Receiving a buffered frame does not suspend this task, so other tasks run here.
            await asyncio.sleep(0)
            if self.closed:
                continue
            try:
                document = parse_frame(message)
            except BadFrame as error:
                await self.refuse_frame({"code": error.code, "detail": str(error)})
                continue
            bad = self._bad
            yield document
            if self._bad == bad:  # the endpoint did not refuse it
                self._bad = 0
        self.closed = True

    async def refuse_frame(self, error: Mapping[str, Any]) -> None:
        """Reports an invalid frame; too many in a row close the socket. Raises SocketClosed.

        Call it before the next frame is received.
        """
        self._bad += 1
        await self.send_json({"type": "error"} | dict(error))
        if self._bad >= MAX_BAD_FRAMES:
            await self.close(POLICY_VIOLATION, "Too many frames are not valid.")

    async def send_json(self, document: Mapping[str, Any]) -> None:
        """Raises SocketClosed."""
        await self.send_text(json.dumps(document, ensure_ascii=False))

    async def send_text(self, text: str) -> None:
        """Raises SocketClosed, also when the client has read nothing for `SEND_TIMEOUT_S`."""
        if self.closed:
            raise SocketClosed
        try:
            await self._transmit(text)
        except TimeoutError:
            await self.close(POLICY_VIOLATION, "The client reads too slowly.")
            raise SocketClosed from None

    async def _transmit(self, text: str) -> None:
        """Raises TimeoutError."""
        # A model may write a lone surrogate, which no frame may contain.
        text = text.encode("utf-8", "replace").decode()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        await self._hang_up(code, reason)

    async def refuse(self, refused: SocketRefused) -> None:
        """Sends the reason, then closes.

        The socket counts as closed at once, because a client that reads nothing blocks the send
        for `SEND_TIMEOUT_S`.
        """
        if self.closed:
            return
        self.closed = True
        error = {"type": "error", "code": refused.code, "detail": str(refused)}
        with contextlib.suppress(TimeoutError):
            await self._transmit(json.dumps(error, ensure_ascii=False))
        await self._hang_up(refused.close_code, str(refused))

    async def _hang_up(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason[:MAX_REASON]})

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Keeps the socket open during a drain, because the client still waits for an answer."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def leave(self, reason: str) -> None:
        """Closes the socket as soon as the client waits for no answer."""
        while self._busy and not self.closed:  # noqa: ASYNC110 - it happens once
            await asyncio.sleep(0.02)
        await self.close(GOING_AWAY, reason)


def parse_frame(message: Mapping[str, Any]) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise BadFrame("unsupported_media_type", "Send text frames, not binary ones.")
    try:
        document = StrictJSONParser().parse(BytesIO(text.encode("utf-8", "replace")))
    except RequestDataTooBig:
        raise BadFrame("too_large", "The frame is larger than 1 MB.") from None
    except ParseError:
        raise BadFrame("invalid", "The frame is not valid JSON.") from None
    if not isinstance(document, dict):
        raise BadFrame("invalid", "A frame is a JSON object.")
    return document
