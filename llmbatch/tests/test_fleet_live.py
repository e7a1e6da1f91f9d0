"""/ws/live of a fleet: a door shows what other doors take in and what workers do with it."""

import asyncio
import json

from websockets.asyncio.client import connect

from llmbatch.tests.fleet import Clients, fleet_marks, start_workers

pytestmark = fleet_marks()


async def test_each_door_shows_the_whole_fleet(clients: Clients):
    await start_workers(clients, "a", "b")
    urls = [url.replace("http", "ws") + "/ws/live" for url in clients.fleet.urls]
    async with connect(urls[0]) as first, connect(urls[1]) as second:
        for watcher in (first, second):
            assert json.loads(await asyncio.wait_for(watcher.recv(), 10))["type"] == "state"
        await asyncio.sleep(0.5)  # the announcement that somebody watches has reached everybody
        reading = [asyncio.create_task(read_events(watcher, 24)) for watcher in (first, second)]
        replies = await asyncio.gather(*(clients.ask(f"a secret {n}") for n in range(24)))
        seen = await asyncio.gather(*reading)
        channel = next(iter(clients.fleet.redis.pubsub_channels("*.live")), None)
        assert channel is not None
    batches = {reply.json()["batch_id"] for reply in replies}
    for events in seen:
        dispatched = [item["id"] for e in events["dispatched"] for item in e["items"]]
        assert len(dispatched) == len(set(dispatched)) == 24
        accepted = [item["id"] for e in events["accepted"] for item in e["items"]]
        ended = [event["id"] for event in events["item_ended"]]
        assert sorted(accepted) == sorted(dispatched) == sorted(ended)
        assert {event["batch_id"] for event in events["dispatched"]} == batches
        assert "secret" not in json.dumps(events)
    await until_nobody_listens(clients)


async def read_events(watcher, requests: int) -> dict[str, list[dict]]:
    """Until every request has ended."""
    events: dict[str, list[dict]] = {"accepted": [], "dispatched": [], "item_ended": []}
    while sum(map(len, events.values())) == 0 or len(events["item_ended"]) < requests:
        frame = json.loads(await asyncio.wait_for(watcher.recv(), 15))
        for event in frame.get("events", []):
            events.setdefault(event["kind"], []).append(event)
    return events


async def until_nobody_listens(clients: Clients) -> None:
    async with asyncio.timeout(5):
        while clients.fleet.redis.pubsub_channels("*.live"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
