"""/ws/live of each web process shows the requests of all web processes and workers."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect

from llmbatch.tests.fixtures.fleet import Clients, fleet_marks, set_workers
from llmbatch.tests.fixtures.server import PATIENCE_S

pytestmark = fleet_marks()


class Watcher:
    """Collects every event of one web process."""

    def __init__(self) -> None:
        self.events: dict[str, list[dict]] = defaultdict(list)

    async def read(self, connection: ClientConnection) -> None:
        async for frame in connection:
            for event in json.loads(frame).get("events", []):
                self.events[event["kind"]].append(event)

    def ids(self, kind: str) -> list[int]:
        if kind == "item_ended":
            return [event["id"] for event in self.events[kind]]
        return [item["id"] for event in self.events[kind] for item in event["items"]]

    @property
    def usernames(self) -> set[str]:
        return {item["username"] for event in self.events["accepted"] for item in event["items"]}

    @property
    def batches(self) -> set[int]:
        return {event["batch_id"] for event in self.events["dispatched"]}


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Watcher]:
    async with connect(f"{url.replace('http', 'ws')}/ws/live") as connection:
        watcher = Watcher()
        reading = asyncio.create_task(watcher.read(connection))
        yield watcher
        reading.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_all_processes_report(clients: Clients, watchers: list[Watcher]) -> None:
    """Waits until both web processes and both workers know of the watchers."""
    owners = "SELECT id, split_part(owner, '#', 1) FROM batching_batch"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.gather(*(clients.ask("?", web=n, username=f"web{n}") for n in (0, 1)))
            by_worker = defaultdict(set)
            for batch, owner in clients.fleet.query(owners):
                by_worker[owner].add(batch)
            if all(
                watcher.usernames >= {"web0", "web1"}
                and all(watcher.batches & by_worker[name] for name in ("one", "two"))
                for watcher in watchers
            ):
                return


async def test_each_web_process_shows_the_whole_fleet(clients: Clients):
    await set_workers(clients, "one", "two")
    first, second = clients.fleet.urls
    async with watching(first) as one, watching(second) as other:
        await until_all_processes_report(clients, [one, other])
        asked = (clients.ask(f"a secret {n}", username="ann") for n in range(24))
        replies = await asyncio.gather(*asked)
        rows = clients.fleet.query("SELECT id FROM chats_chat WHERE username = 'ann'")
        ids = {row[0] for row in rows}
        assert len(ids) == 24
        for watcher in (one, other):
            await until(lambda watcher=watcher: ids <= set(watcher.ids("item_ended")))
            for kind in ("accepted", "dispatched", "item_ended"):
                assert sorted(i for i in watcher.ids(kind) if i in ids) == sorted(ids), kind
            assert {reply.json()["batch_id"] for reply in replies} <= watcher.batches
            assert "secret" not in json.dumps(watcher.events)
        assert clients.fleet.redis.pubsub_channels("*.live")
    await until(lambda: not clients.fleet.redis.pubsub_channels("*.live"))
