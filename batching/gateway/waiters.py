"""The clients of this process that wait for answers, and the text that has arrived for them."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError, error_from_code
from batching.engine.lanes import Priority


@dataclass(slots=True)
class PartialText:
    """The text of an answer that call `call_id` is still writing."""

    call_id: int
    text: str = ""
    generation: int | None = None

    def add(self, start: int, text: str) -> None:
        """Appends a delta that continues the text. After a lost delta, later ones are ignored."""
        if start <= len(self.text) < start + len(text):
            self.text += text[len(self.text) - start :]


class Waiter:
    """One client's wait for the answer to one request.

    `chat_id` and `generation` are 0 until the request is stored. The waiter is `queued` until its
    batch leaves. Some time after `due` the gateway reads the row, because the message with the
    answer may have been lost.
    """

    def __init__(self, priority: Priority, tenant: str, *, due: float) -> None:
        self.chat_id = 0
        self.generation = 0
        self.priority = priority
        self.tenant = tenant
        self.due = due
        self.queued = True
        # The position in the queue; None if it is unknown or if the client receives no events.
        self.position: int | None = None
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._changed: asyncio.Event | None = None

    @property
    def wants_position(self) -> bool:
        return self._changed is not None and self.queued

    def matches(self, generation: int | None) -> bool:
        """A message without a generation matches every waiter: answers carry none."""
        return generation is None or generation == self.generation

    def move_to(self, position: int | None) -> None:
        if self.queued and position is not None and position != self.position:
            self.position = position
            self.notify()

    async def wait_for_change(self) -> None:
        """Returns when the waiter has changed since the last call; the first call does not wait."""
        if self._changed is None:
            self._changed = asyncio.Event()
            self.answer.add_done_callback(lambda _: self.notify())
        elif not self.answer.done():
            await self._changed.wait()
        self._changed.clear()

    def notify(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def fail(self, error: GatewayError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # asyncio would log the error if no client awaits it any more


class Waiters:
    """Every open wait of this process. Several clients may wait for one chat."""

    def __init__(self) -> None:
        self._waiters: dict[int, list[Waiter]] = {}
        self._partial_texts: dict[int, PartialText] = {}
        self._queued = dict.fromkeys(Priority, 0)
        self._queued_by_tenant: dict[Priority, dict[str, int]] = {p: {} for p in Priority}

    def __len__(self) -> int:
        return sum(map(len, self._waiters.values()))

    def count_queued(self, priority: Priority) -> int:
        """The number of opened waiters whose batch has not left yet."""
        return self._queued[priority]

    def queued_by_tenant(self, priority: Priority) -> Mapping[str, int]:
        return self._queued_by_tenant[priority]

    def open(self, priority: Priority, tenant: str = "", *, due: float) -> Waiter:
        """Returns the waiter of a request that is about to be stored. `remove` ends it."""
        self._queued[priority] += 1
        tenants = self._queued_by_tenant[priority]
        tenants[tenant] = tenants.get(tenant, 0) + 1
        return Waiter(priority, tenant, due=due)

    def add(self, waiter: Waiter, *, chat_id: int, generation: int) -> None:
        """From now on, messages about this generation of the chat reach the waiter."""
        waiter.chat_id, waiter.generation = chat_id, generation
        self._waiters.setdefault(chat_id, []).append(waiter)

    def leave_queue(self, waiter: Waiter) -> None:
        if waiter.queued:
            waiter.queued = False
            self._queued[waiter.priority] -= 1
            tenants = self._queued_by_tenant[waiter.priority]
            tenants[waiter.tenant] -= 1
            if not tenants[waiter.tenant]:
                del tenants[waiter.tenant]

    def remove(self, waiter: Waiter) -> None:
        self.leave_queue(waiter)
        waiters = self._waiters.get(waiter.chat_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(waiter.chat_id, None)
            self._partial_texts.pop(waiter.chat_id, None)

    def find_partial_text(self, waiter: Waiter) -> PartialText | None:
        partial = self._partial_texts.get(waiter.chat_id)
        return partial if partial is not None and waiter.matches(partial.generation) else None

    def add_delta(self, delta: TextDelta) -> None:
        """Ignores a delta that no client waits for, and one of an earlier call."""
        waiters = [w for w in self._waiters.get(delta.item_id, []) if w.matches(delta.generation)]
        partial = self._partial_texts.get(delta.item_id)
        if not waiters or (partial is not None and partial.call_id > delta.call_id):
            return
        if partial is None or partial.call_id < delta.call_id:
            partial = PartialText(delta.call_id, generation=delta.generation)
            self._partial_texts[delta.item_id] = partial
        partial.add(delta.start, delta.text)
        for waiter in waiters:
            waiter.notify()

    def list_wanting_position(self) -> list[Waiter]:
        return [waiter for waiter in self._list() if waiter.wants_position]

    def list_overdue(self, before: float) -> list[Waiter]:
        """All waiters of each chat of which at least one waiter has been due since `before`."""
        return [
            waiter
            for waiters in self._waiters.values()
            if any(waiter.due < before for waiter in waiters)
            for waiter in waiters
        ]

    def refuse_all(self, error: GatewayError) -> None:
        """Ends every wait; the requests stay in the database as they are."""
        for waiter in self._list():
            self.remove(waiter)
            waiter.fail(error)

    def mark_dispatched(self, chat_ids: Iterable[int]) -> None:
        for chat_id in chat_ids:
            for waiter in self._waiters.get(chat_id, []):
                if waiter.queued:
                    self.leave_queue(waiter)
                    waiter.notify()

    def deliver(self, chat_id: int, response: dict[str, Any]) -> None:
        """Ends the waits for the chat with an answer or with an error of their generation."""
        for waiter in list(self._waiters.get(chat_id, [])):
            # A late error must not end the wait of a client that has sent the request again.
            if waiter.matches(response.get("generation")):
                self.deliver_to(waiter, response)

    def deliver_to(self, waiter: Waiter, response: dict[str, Any]) -> None:
        """Ends one wait; the other clients of the chat continue to wait."""
        self.remove(waiter)
        if "error" in response:
            waiter.fail(_parse_error(response["error"]))
        elif not waiter.answer.done():  # the client may have left or timed out in this tick
            waiter.answer.set_result(response["answer"])

    def _list(self) -> list[Waiter]:
        return list(chain.from_iterable(self._waiters.values()))


def _parse_error(error: dict[str, Any]) -> GatewayError:
    return error_from_code(error["code"], error["detail"], error.get("retry_after_s"))
