"""WS /ws/query: many queries over one socket.

A client sends `{"type": "query", …a body of POST /v1/query}`, with `"stream": true` to receive the
text while the model writes it, or `{"type": "cancel", "request_id", "username"?}`. Every frame
about a query repeats its `ref`. The frames about a query have the types `accepted`, `position`,
`dispatched`, `text`, `restart`, and at the end `done` or `error`; a cancel is answered by `cancel`.
"""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.views import APIView

from batching.api.base import charge_key
from batching.api.serializers import parse_query
from batching.engine.errors import QueueFull
from batching.gateway.admission import Query
from batching.gateway.gateway import Gateway
from batching.process.runtime import get_runtime
from batching.sockets.socket import Socket, SocketClosed

# Queries of one socket that wait for their answers.
MAX_OPEN = 1000
MAX_REF = 200

Frame = dict[str, Any]


async def converse(socket: Socket) -> None:
    """Serves one client until it disconnects, which cancels its queries in the queue."""
    conversation = Conversation(socket, (await get_runtime()).gateway)
    try:
        async for frame in socket:
            await conversation.handle_frame(frame)
    finally:
        await conversation.end()


class Conversation:
    def __init__(self, socket: Socket, gateway: Gateway) -> None:
        self._socket = socket
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_frame(self, frame: Frame) -> None:
        mark = {name: frame[name] for name in ("request_id", "ref") if _is_short(frame.get(name))}
        try:
            _check_frame(frame)
            if frame["type"] == "query":
                query = parse_query(frame)
                if len(self._tasks) >= MAX_OPEN:
                    raise QueueFull(f"{MAX_OPEN} queries of this socket are open already.")
                streamed = frame.get("stream", False)
                self._begin(self._ask(replace(query, streamed=streamed), mark))
            else:
                # Awaited, so that the socket reads no further frame meanwhile: a client that sends
                # cancels faster than they run would fill the shared queue of database work.
                await self._cancel(frame, mark)
        except ValidationError as error:
            await self._socket.refuse_frame(_describe(error) | mark)
        except Exception as error:
            await self._fail(error, mark)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="query of a socket")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, query: Query, mark: Frame) -> None:
        with self._socket.working():
            try:
                await self._answer(query, mark)
            except SocketClosed:
                pass
            except Exception as error:
                await self._fail(error, mark)

    async def _answer(self, query: Query, mark: Frame) -> None:
        query = await charge_key(self._socket.visitor.principal, query)
        whole = ""
        async with aclosing(self._gateway.stream(query)) as events:
            async for event in events:
                if event["type"] == "accepted":
                    mark = mark | {"request_id": event["request_id"]}
                if event["type"] == "text" and not query.streamed:
                    whole += event["content"]
                    continue
                if event["type"] == "restart" and not query.streamed:
                    whole = ""
                    continue
                if event["type"] == "done" and not query.streamed:
                    event = event | {"text": whole}
                await self._socket.send_json(event | mark)

    async def _cancel(self, frame: Frame, mark: Frame) -> None:
        principal = self._socket.visitor.principal
        try:
            await self._gateway.cancel(
                frame["request_id"],
                client_id=principal.client_id if principal else None,
                username=frame.get("username"),
            )
            document = {"status": "cancelled"}
        except Exception as error:
            document = _describe(error)
        try:
            await self._socket.send_json({"type": "cancel"} | document | mark)
        except SocketClosed:
            pass

    async def _fail(self, error: Exception, mark: Frame) -> None:
        try:
            await self._socket.send_json({"type": "error"} | _describe(error) | mark)
        except SocketClosed:
            pass


def _check_frame(frame: Frame) -> None:
    """Raises ValidationError. The fields of the query are checked by its parser."""
    errors = {}
    if frame.get("type") not in ("query", "cancel"):
        errors["type"] = ["Must be query or cancel."]
    if not _is_short(frame.get("ref", "")):
        errors["ref"] = [f"Must be text of at most {MAX_REF} characters."]
    if not isinstance(frame.get("stream", False), bool):
        errors["stream"] = ["Must be true or false."]
    if frame.get("type") == "cancel":
        if not isinstance(frame.get("request_id"), str):
            errors["request_id"] = ["Must be the request_id of the query to cancel."]
        if not isinstance(frame.get("username", ""), str):
            errors["username"] = ["Must be text."]
    if errors:
        raise ValidationError(errors)


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_REF


def _describe(error: Exception) -> Frame:
    """The error document that an HTTP endpoint returns for the same error."""
    response = APIView().get_exception_handler()(error, {})
    document: Frame = json.loads(response.content)
    if "Retry-After" in response:
        document["retry_after_s"] = int(response["Retry-After"])
    return document
