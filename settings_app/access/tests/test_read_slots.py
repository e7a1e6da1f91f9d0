"""Clients take turns at the reads, and none holds more than its part of them."""

import asyncio
from collections.abc import Hashable

import pytest

from settings_app.access.read_slots import ReadSlots, TooManyReads


class Readers:
    """Reads that last until they are ended, in the order in which they began."""

    def __init__(self, slots: ReadSlots) -> None:
        self._slots = slots
        self.running: list[tuple[str, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, *clients: str) -> None:
        self.tasks += [asyncio.create_task(self._read(name), name=name) for name in clients]
        await self.settle()

    async def _read(self, client: Hashable) -> None:
        async with self._slots.take(client):
            entry = (str(client), asyncio.Event())
            self.running.append(entry)
            await entry[1].wait()
            self.running.remove(entry)

    async def end_first(self) -> None:
        self.running[0][1].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.running)


async def test_one_client_gets_only_its_part_and_others_read_at_once() -> None:
    readers = Readers(ReadSlots(total=4, per_client=2))
    await readers.start(*"aaaaaaaaaa")
    assert readers.names == "aa"
    await readers.start("b", "c")
    assert readers.names == "aabc"


async def test_clients_that_wait_take_turns_and_each_keeps_its_order() -> None:
    readers = Readers(ReadSlots(total=2, per_client=1))
    await readers.start(*"aaabbcc")
    order = ""
    while readers.running:
        order += readers.running[0][0]
        await readers.end_first()
    assert order == "abcabca"
    assert all(task.done() for task in readers.tasks)


async def test_reader_that_waits_too_long_is_refused_and_takes_no_slot() -> None:
    slots = ReadSlots(total=1, per_client=1)
    async with slots.take("a"):
        with pytest.raises(TooManyReads):
            async with slots.take("a", wait_s=0):
                pass
    async with slots.take("b"):
        pass
    assert not slots._waiting
    assert not slots._running


async def test_reader_that_leaves_while_it_gets_its_slot_returns_it() -> None:
    slots = ReadSlots(total=1, per_client=1)
    readers = Readers(slots)
    await readers.start("a", "b", "c")
    readers.running[0][1].set()
    await asyncio.sleep(0)  # a has passed its slot to b, which has not run since
    readers.tasks[1].cancel()
    await readers.settle()
    assert readers.names == "c"
    await readers.end_first()
    assert not slots._waiting
    assert not slots._running
