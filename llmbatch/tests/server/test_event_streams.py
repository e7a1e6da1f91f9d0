"""Server-sent events over real sockets: many clients, retries, killed workers and SIGTERM."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.wire import Pace
from batching.tests.event_streams import EVENTS, join_text, parse_frames
from llmbatch.tests.fixtures.fleet import Clients, fleet_marks, set_workers, start_workers
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENCE_S, Server

pytestmark = pytest.mark.server


@dataclass
class Reading:
    """One received stream, and the arrival time of each chunk."""

    body: str = ""
    times: list[float] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return parse_frames(self.body)

    @property
    def text(self) -> str:
        assert self.events[-1]["type"] == "done", self.events[-1]
        return join_text(self.events)


async def read_stream(
    http: httpx2.AsyncClient, url: str, prompt: str, *, into: Reading | None = None, **fields: Any
) -> Reading:
    body = {"username": "ann", "prompt": prompt, "priority": "HIGH"} | fields
    reading = into or Reading()
    async with http.stream("POST", f"{url}/v1/query", json=body, headers=EVENTS) as reply:
        assert reply.status_code == 200, await reply.aread()
        async for chunk in reply.aiter_text():
            reading.body += chunk
            reading.times.append(time.monotonic())
    return reading


def make_client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=300, limits=httpx2.Limits(max_connections=500))


async def test_each_of_two_hundred_clients_receives_its_whole_answer(
    model: ModelThread, server: Server
) -> None:
    model.set_pace(Pace(total_s=1.0))
    prompts = [f"question {index} [[words:{20 + index}]]" for index in range(200)]
    async with make_client() as http:
        readings = await asyncio.gather(*(read_stream(http, server.url, p) for p in prompts))
    for prompt, reading in zip(prompts, readings, strict=True):
        assert reading.text == answer_prompt(prompt)
    assert server.threads < 40
    assert sum(model.sizes) == 200


async def test_text_arrives_while_the_model_writes(model: ModelThread, server: Server) -> None:
    model.set_pace(Pace(total_s=5.0))
    async with make_client() as http:
        reading = await read_stream(http, server.url, "[[words:900]]")
    assert len(reading.times) > 3
    assert reading.times[-1] - reading.times[0] > 1.0, "a reply of five seconds arrives over time"


async def test_client_that_disconnects_in_the_queue_causes_no_call(
    model: ModelThread, server: Server
) -> None:
    body = {"username": "ann", "prompt": "Why?", "priority": "LOW", "request_id": "r-1"}
    async with make_client() as http:
        async with http.stream("POST", f"{server.url}/v1/query", json=body, headers=EVENTS):
            pass  # it disconnects after the headers
        limit = time.monotonic() + PATIENCE_S
        while (state := (await http.get(f"{server.url}/v1/query/r-1")).json()["status"]) in (
            "queued",
            "running",
        ):
            assert time.monotonic() < limit, state
            await asyncio.sleep(0.05)
    assert state == "cancelled"
    assert model.sizes == []


async def test_drain_lets_quick_streams_end_and_sends_an_error_to_slow_ones(
    model: ModelThread, tmp_path: Path
) -> None:
    """The drain is longer than the quick stream and shorter than the slow one."""
    with Server(tmp_path, GEMINI_BASE_URL=model.url, DRAIN_S="8") as server:
        await _drain_streams(model, server)


async def _drain_streams(model: ModelThread, server: Server) -> None:
    model.set_pace(Pace(total_s=1.0))
    async with make_client() as http:
        quick = asyncio.create_task(read_stream(http, server.url, "[[words:200]]"))
        await model.wait_for_calls(1)
        model.set_pace(Pace(total_s=60.0))
        slow = asyncio.create_task(read_stream(http, server.url, "[[words:300]]"))
        await model.wait_for_calls(2)
        code = await asyncio.to_thread(server.terminate)
        assert (await quick).text == answer_prompt("[[words:200]]")
        end = (await slow).events[-1]
    assert code == 0
    assert (end["type"], end["code"]) == ("error", "shutting_down")


class TestFleet:
    pytestmark = fleet_marks()

    async def test_clients_of_both_web_processes_receive_deltas(self, clients: Clients) -> None:
        clients.server.set_pace(Pace(total_s=1.0))
        await set_workers(clients, "one", "two")
        prompts = [f"question {index} [[words:{200 + index}]]" for index in range(24)]
        urls = clients.fleet.urls
        async with make_client() as http:
            readings = await asyncio.gather(
                *(read_stream(http, urls[i % 2], p) for i, p in enumerate(prompts))
            )
        for prompt, reading in zip(prompts, readings, strict=True):
            assert reading.text == answer_prompt(prompt)
        assert sum(len(reading.events) for reading in readings) > 3 * 24, "in pieces"
        assert "restart" not in {event["type"] for r in readings for event in r.events}

    async def test_killed_worker_restarts_the_streams_of_its_requests(
        self, clients: Clients
    ) -> None:
        clients.server.set_pace(Pace(total_s=20.0))
        await set_workers(clients, "one")
        prompt, seen = "[[words:400]]", Reading()
        async with make_client() as http:
            reading = asyncio.create_task(
                read_stream(http, clients.fleet.urls[0], prompt, into=seen)
            )
            while '"text"' not in seen.body:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            clients.fleet.kill("one")
            clients.fleet.expire_leases()
            clients.server.set_pace(Pace(total_s=0.5))
            await start_workers(clients, "two")
            result = await reading
        assert [event["type"] for event in result.events].count("restart") == 1
        assert result.text == answer_prompt(prompt)
        await clients.fleet.demand_agreeing_books()
