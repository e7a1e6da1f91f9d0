"""One open WebSocket: JSON objects in both directions, within bounds."""

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

SEND_TIMEOUT_S = 10.0
"""who reads nothing for so long is disconnected"""
MAX_BAD_FRAMES = 20
"""in a row, whether they are no JSON objects or refused as invalid"""
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
MAX_REASON = 120


class SocketClosed(Exception):
    """Nothing can be sent any more."""


class BadFrame(Exception):
    """A frame that is no JSON object."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Socket:
    """`async for document in socket` gives what the client sends, and ends with the connection.

    A send waits while the client does not read, so what is not sent yet stays with the caller.
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
            # What has come already is received without a wait: others get their turn here.
            await asyncio.sleep(0)
            if self.closed:
                continue
            try:
                document = read_frame(message)
            except BadFrame as error:
                await self.refuse_frame({"code": error.code, "detail": str(error)})
                continue
            bad = self._bad
            yield document
            if self._bad == bad:  # it was not refused meanwhile
                self._bad = 0
        self.closed = True

    async def refuse_frame(self, error: Mapping[str, Any]) -> None:
        """Before the next frame is asked for. The last of too many in a row ends the connection.

        Raises SocketClosed.
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
        # No frame may hold a lone surrogate, and a model may write one.
        text = text.encode("utf-8", "replace").decode()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        await self._hang_up(code, reason)

    async def refuse(self, refused: SocketRefused) -> None:
        """Says why, and closes. From its first moment on nothing else is heard or sent.

        That moment counts: who reads nothing takes `SEND_TIMEOUT_S` to be told.
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
        """While something is owed to the client, a drain leaves the socket open."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def leave(self, reason: str) -> None:
        """Closes it as soon as nothing is owed to the client any more."""
        while self._busy and not self.closed:  # noqa: ASYNC110 - it happens once
            await asyncio.sleep(0.02)
        await self.close(GOING_AWAY, reason)


def read_frame(message: Mapping[str, Any]) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise BadFrame("unsupported_media_type", "Only text frames are understood, not binary.")
    try:
        document = StrictJSONParser().parse(BytesIO(text.encode("utf-8", "replace")))
    except RequestDataTooBig:
        raise BadFrame("too_large", "The frame is larger than 1 MB.") from None
    except ParseError:
        raise BadFrame("invalid", "The frame is not valid JSON.") from None
    if not isinstance(document, dict):
        raise BadFrame("invalid", "A frame is a JSON object.")
    return document
