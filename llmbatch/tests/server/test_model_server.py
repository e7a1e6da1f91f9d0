"""The simulated model over real sockets, asked by the real SDK."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from batching.llm.simulated.answers import MARK
from batching.llm.simulated.transport import Responder, SimulatedTransport
from batching.llm.simulated.wire import Pace
from batching.llm.tests.sdk_client import MODEL, PROMPTS, Outcome, ask, connect, make_client
from batching.tests.faults.catalogue import find_fault
from llmbatch.tests.fixtures.model_server import ModelServer, run_model_server

AT_ONCE = Pace(total_s=0.0)


async def ask_at(url: str, prompts: dict[str, str], **options: float) -> Outcome:
    async with connect(url) as client:
        return await ask(client, prompts, **options)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer(pace=AT_ONCE) as running:
        yield running


def mark(name: str) -> dict[str, str]:
    return PROMPTS | {"1_m8zt": f"[[fault:{name}]] {PROMPTS['1_m8zt']}"}


async def test_server_replies_as_the_transport_does(server):
    over_http = await ask_at(server.url, PROMPTS)
    inside = await ask(make_client(transport=SimulatedTransport(Responder(pace=AT_ONCE))), PROMPTS)
    assert over_http.error is None
    assert over_http.text == inside.text
    assert over_http.usage == inside.usage
    assert all(answer.startswith(MARK) for answer in over_http.answers.values())


async def test_prefix_in_the_base_url_changes_no_answer(server):
    outcome = await ask_at(f"{server.url}/some/proxy", PROMPTS)
    assert [*outcome.answers] == [*PROMPTS]
    assert server.calls[0].path.startswith("/some/proxy/v1beta/models/")


async def test_one_connection_serves_many_calls(server):
    async with connect(server.url) as client:
        for _ in range(5):
            assert (await ask(client, PROMPTS)).error is None
        assert (await client.aio.models.get(model=MODEL)).name
    assert [call.number for call in server.calls] == [1, 2, 3, 4, 5, 6]
    assert server.sizes == [3] * 5
    assert {call.state for call in server.calls} == {"complete"}
    assert server.connections == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reset", httpx2.ReadError),
        ("reset-at-once", httpx2.ReadError),
        ("reset-headers", httpx2.ReadError),
        ("early-close", httpx2.RemoteProtocolError),
        ("close-at-once", httpx2.RemoteProtocolError),
        ("hang-before-headers", httpx2.ReadTimeout),
        ("hang-after", httpx2.ReadTimeout),
        ("hang-headers", httpx2.ReadTimeout),
        ("broken-event", ValueError),
    ],
)
async def test_connection_fails_as_the_marker_requests(server, name, kind):
    timeout_s = 1.5 if kind is httpx2.ReadTimeout else 60.0
    outcome = await ask_at(server.url, mark(name), timeout_s=timeout_s)
    assert isinstance(outcome.error, kind), outcome.error
    assert server.calls[0].fault.endswith(find_fault(name).name)


@pytest.mark.parametrize("name", ["reset-after", "hang-after", "no-finish-after"])
async def test_text_before_the_fault_is_received(server, name):
    outcome = await ask_at(server.url, mark(name), timeout_s=2.0 if "hang" in name else 60.0)
    assert f'"1_m8zt": "{MARK}' in outcome.text
    assert "2_p0ab" not in outcome.text


@pytest.mark.parametrize("name", ["status-204", "status-302", "status-429", "status-502-html"])
async def test_connection_stays_open_after_an_error_status(server, name):
    async with connect(server.url) as client:
        failed = await ask(client, mark(name))
        fine = await ask(client, PROMPTS)
    assert failed.error.code == int(name.split("-")[1])
    assert fine.error is None
    assert server.connections == 1


async def test_marker_with_a_number_affects_only_so_many_calls(server):
    async with connect(server.url) as client:
        outcomes = [await ask(client, {"0_a": "[[fault:status-503:2]]"}) for _ in range(3)]
    assert [bool(outcome.error) for outcome in outcomes] == [True, True, False]


async def test_call_of_a_disconnected_client_is_abandoned(server):
    task = asyncio.create_task(ask_at(server.url, mark("hang-before-headers")))
    async with asyncio.timeout(60):
        await server.wait_for_calls(1)
        task.cancel()
        await asyncio.wait([task])
        await server.wait_until_idle()
    assert server.calls[0].state == "abandoned"


async def test_record_of_calls_can_be_read_and_deleted(server):
    async with connect(server.url, key="secret-key-1234") as client:
        await ask(client, PROMPTS)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        deleted = (await client.delete("/calls")).json()
        again = (await client.get("/calls")).json()
    assert deleted["total"] == 1
    assert deleted["calls"][0]["prompts"] == PROMPTS
    assert deleted["calls"][0]["api_key"] == "1234"
    assert "secret" not in str(deleted)
    assert (again["total"], again["calls"]) == (0, [])


async def test_bytes_that_are_not_http_end_only_their_connection(server):
    length = b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"
    for junk in (b"\r\n\r\n", b"POST\r\n\r\n", length, b"a" * 99_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2]))
        writer.write(junk)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
    assert (await ask_at(server.url, PROMPTS)).error is None


async def test_many_calls_run_at_once():
    """All of them arrive before the first reply ends, even on a slow machine."""
    everybody_came = asyncio.Event()

    def count(call) -> None:
        if call.number == 120:
            everybody_came.set()

    prompts = [{"0_a": f"question {i}."} for i in range(120)]
    async with (
        ModelServer(count, pace=Pace(total_s=5.0)) as server,
        connect(server.url) as client,
    ):
        tasks = [asyncio.create_task(ask(client, prompt)) for prompt in prompts]
        await everybody_came.wait()
        outcomes = await asyncio.gather(*tasks)
        for prompt, outcome in zip(prompts, outcomes, strict=True):
            assert prompt["0_a"] in outcome.answers["0_a"]
        assert server.most_running > 100


def test_separate_process_prints_its_url_and_takes_the_given_time():
    with run_model_server("--model-time", "0.3", "--fault", "missing") as url:
        began = time.monotonic()
        outcome = asyncio.run(ask_at(url, PROMPTS))
        took_s = time.monotonic() - began
        calls = httpx2.get(f"{url}/calls").json()["calls"]
    assert [*outcome.answers] == [*PROMPTS][1:]
    assert took_s >= 0.3
    assert calls[0]["fault"] == "missing"
    assert 0.29 <= calls[0]["ended"] - calls[0]["started"] < 20
