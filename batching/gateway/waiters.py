"""Who waits in this process, and for what."""

import asyncio
from collections.abc import Iterable
from typing import Any

from batching.engine.deltas import TextDelta
from batching.engine.errors import GatewayError, error_from_code
from batching.engine.lanes import Priority
from batching.gateway.partial_text import PartialText


class Waiter:
    """One client's wait for one `generation` of one chat. It is `queued` until its batch leaves.

    Long after `due` the answer's message may have been lost, and the row is read again.
    """

    def __init__(self, chat_id: int, priority: Priority, *, due: float, generation: int) -> None:
        self.chat_id = chat_id
        self.generation = generation
        self.priority = priority
        self.due = due
        self.queued = True
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.position: int | None = None
        """its place in the queue, where somebody reads along and it is known"""
        self._changed: asyncio.Event | None = None

    @property
    def wants_position(self) -> bool:
        """Somebody reads along, and may want to know the place in the queue."""
        return self._changed is not None and self.queued

    def matches(self, generation: int | None) -> bool:
        """News that names no generation is for all: an answer, or told by an earlier version."""
        return generation is None or generation == self.generation

    def move_to(self, position: int | None) -> None:
        if self.queued and position is not None and position != self.position:
            self.position = position
            self.notify()

    async def wait_for_change(self) -> None:
        """Returns when there is an answer, or more of its text than at the last call."""
        if self._changed is None:
            self._changed = asyncio.Event()
            self.answer.add_done_callback(lambda _: self.notify())
        elif not self.answer.done():
            await self._changed.wait()
        self._changed.clear()

    def notify(self) -> None:
        if self._changed is not None:
            self._changed.set()


class Waiters:
    """Resolves the futures of waiting views. Several may wait for one chat."""

    def __init__(self) -> None:
        self._waiters: dict[int, list[Waiter]] = {}
        self._partial_texts: dict[int, PartialText] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiters.values()))

    def add(self, waiter: Waiter) -> None:
        self._waiters.setdefault(waiter.chat_id, []).append(waiter)

    def remove(self, waiter: Waiter) -> None:
        waiters = self._waiters.get(waiter.chat_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(waiter.chat_id, None)
            self._partial_texts.pop(waiter.chat_id, None)

    def find_partial_text(self, waiter: Waiter) -> PartialText | None:
        """What is written so far of what it waits for; None if nothing is."""
        partial = self._partial_texts.get(waiter.chat_id)
        return partial if partial is not None and waiter.matches(partial.generation) else None

    def add_delta(self, delta: TextDelta) -> None:
        """Takes a delta of an answer that is still being written, if anybody waits for it."""
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
        return [w for waiters in self._waiters.values() for w in waiters if w.wants_position]

    def list_overdue(self, before: float) -> list[Waiter]:
        """All who wait for chats of which somebody should have heard since the due time."""
        return [
            waiter
            for waiters in self._waiters.values()
            if any(waiter.due < before for waiter in waiters)
            for waiter in waiters
        ]

    def refuse_all(self, error: GatewayError) -> None:
        """Ends every wait; the chats stay where they are."""
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            if not waiter.answer.done():
                waiter.answer.set_exception(error)
                waiter.answer.exception()  # nobody may be left to look at it
        self._waiters.clear()
        self._partial_texts.clear()

    def mark_dispatched(self, chat_ids: Iterable[int]) -> list[Waiter]:
        """The waiters whose chats have just left the queue."""
        left = []
        for chat_id in chat_ids:
            for waiter in self._waiters.get(chat_id, []):
                if waiter.queued:
                    waiter.queued = False
                    waiter.notify()
                    left.append(waiter)
        return left

    def deliver(self, chat_id: int, outcome: dict[str, Any]) -> list[Waiter]:
        """Hands an answer or an error over; gives those who had waited for it."""
        waiters = self._waiters.get(chat_id, [])
        # A late message of an earlier generation must not end a wait for the present one.
        meant = [waiter for waiter in waiters if waiter.matches(outcome.get("generation"))]
        for waiter in meant:
            self.deliver_to(waiter, outcome)
        return meant

    def deliver_to(self, waiter: Waiter, outcome: dict[str, Any]) -> None:
        """Ends one wait, however the chat's others go on."""
        self.remove(waiter)
        # Its client may have gone or run out of time in this very tick.
        if waiter.answer.done():
            return
        if "error" in outcome:
            waiter.answer.set_exception(_parse_error(outcome["error"]))
            waiter.answer.exception()  # nobody may be left to look at it
        else:
            waiter.answer.set_result(outcome["answer"])


def _parse_error(error: dict[str, Any]) -> GatewayError:
    return error_from_code(error["code"], error["detail"], error.get("retry_after_s"))
