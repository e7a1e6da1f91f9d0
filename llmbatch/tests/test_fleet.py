"""Several processes over Postgres and Redis: full batches, one answer each, whatever dies."""

import asyncio
import random
import signal
from collections import Counter

import httpx2
import psycopg
import pytest

from batching.llm.simulated_answers import answer_prompt
from llmbatch.tests.fleet import Clients, fleet_marks, start_workers

pytestmark = fleet_marks()

CALLS = "SELECT status, perhaps_billed FROM batching_modelcall ORDER BY id"


async def test_two_workers_form_no_premature_and_no_mixed_up_batch(clients: Clients) -> None:
    await start_workers(clients, "one", "two")
    chance, tasks = random.Random(3), []
    for index in range(300):
        tasks.append(asyncio.create_task(clients.ask(f"question {index}.")))
        await asyncio.sleep(chance.expovariate(100))
    replies = await asyncio.gather(*tasks)
    assert Counter(reply.status_code for reply in replies) == {200: 300}
    for index, reply in enumerate(replies):
        assert reply.json()["text"] == answer_prompt(f"question {index}.")
    rows = clients.fleet.query(
        "SELECT b.size, count(c.id), extract(epoch FROM b.created_at - min(c.received_at))"
        " FROM batching_batch b JOIN chats_chat c ON c.batch_id = b.id GROUP BY b.id"
    )
    assert sum(count for _, count, _ in rows) == 300
    premature = [row for row in rows if row[0] < 6 and row[2] < 0.19]
    assert premature == []
    assert sum(clients.server.sizes) == 300, "no request was sent twice"
    assert all(size == count for size, count, _ in rows)
    owners = clients.fleet.query("SELECT DISTINCT owner FROM batching_batch")
    assert len(owners) == 2, "both workers took part"


async def test_same_id_at_both_doors_costs_one_item(clients: Clients) -> None:
    await start_workers(clients, "one", "two")
    replies = await asyncio.gather(
        *(clients.ask("Why?", request_id="same", priority="MEDIUM") for _ in range(50))
    )
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json() == replies[0].json() for reply in replies)
    assert sum(clients.server.sizes) == 1


async def test_worker_killed_in_a_call_loses_nothing(clients: Clients) -> None:
    await start_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow-10:1]] Why?"))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGKILL)
    await start_workers(clients, "one")
    reply = await asking
    assert reply.json()["text"] == answer_prompt("[[fault:slow-10:1]] Why?")
    assert clients.fleet.query("SELECT attempt FROM chats_chat") == [(2,)]
    await clients.fleet.until(CALLS, [("failed", True), ("complete", False)])


async def test_stopped_worker_wakes_up_to_find_its_work_done_by_another(
    clients: Clients,
) -> None:
    await start_workers(clients, "one")
    prompt = "[[fault:slow:1]] Why?"
    asking = asyncio.create_task(clients.ask(prompt, priority="LOW"))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGSTOP)
    await start_workers(clients, "two")
    reply = await asking
    assert reply.json()["text"] == answer_prompt(prompt)
    before = clients.fleet.query("SELECT owner, attempt, text, completed_at FROM chats_chat")
    assert before[0][0].startswith("two#")
    clients.fleet.signal("one", signal.SIGCONT)
    await asyncio.sleep(1.5)
    assert (
        clients.fleet.query("SELECT owner, attempt, text, completed_at FROM chats_chat") == before
    )


async def test_redis_that_forgets_everything_costs_only_time(clients: Clients) -> None:
    await start_workers(clients, "one")
    assert (await clients.ask("before")).status_code == 200
    tasks = [asyncio.create_task(clients.ask(f"q{index}")) for index in range(20)]
    await asyncio.sleep(0.02)
    clients.fleet.redis.client_kill_filter(_type="pubsub")
    clients.fleet.redis.flushdb()
    replies = await asyncio.gather(*tasks)
    assert {reply.status_code for reply in replies} == {200}
    assert (await clients.ask("after")).status_code == 200
    assert sum(clients.server.sizes) == 22


async def test_worker_told_to_stop_finishes_its_calls(clients: Clients) -> None:
    await start_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow]] Why?"))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGTERM)
    assert (await asking).status_code == 200
    code = await asyncio.to_thread(clients.fleet.processes["one"].wait, 15)
    assert code == 0
    assert sum(clients.server.sizes) == 1


async def test_accepted_request_outlives_the_door_that_took_it(clients: Clients) -> None:
    await start_workers(clients, "one")
    door = next(name for name in clients.fleet.processes if name.startswith("web"))
    asking = asyncio.create_task(
        clients.ask("[[fault:slow]] Why?", web=0, request_id="kept", username="bob")
    )
    await clients.server.wait_for_calls(1)
    clients.fleet.signal(door, signal.SIGKILL)
    with pytest.raises(httpx2.HTTPError):
        await asking
    await clients.fleet.until("SELECT status FROM chats_chat", [("done",)])
    async with httpx2.AsyncClient() as http:
        state = await http.get(f"{clients.fleet.urls[1]}/v1/query/kept")
    assert state.json()["response"]["text"] == answer_prompt("[[fault:slow]] Why?")


async def test_worker_killed_between_its_call_and_its_record_repeats_the_call_once(
    clients: Clients,
) -> None:
    """The test holds the row's lock, so the answer is known to the worker and not yet stored."""
    await start_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow:1]] Why?", request_id="kept"))
    await clients.server.wait_for_calls(1)
    with psycopg.connect(clients.fleet.database_url) as connection:
        connection.execute("SELECT 1 FROM chats_chat FOR UPDATE")
        await asyncio.sleep(3.0)  # the reply is read by now
        assert not asking.done(), "what is not stored is not answered"
        clients.fleet.signal("one", signal.SIGKILL)
        clients.fleet.processes["one"].wait()
    await start_workers(clients, "one")
    reply = await asking
    assert reply.json()["text"] == answer_prompt("[[fault:slow:1]] Why?")
    assert clients.fleet.query("SELECT status, attempt FROM chats_chat") == [("done", 2)]
    await clients.fleet.until(CALLS, [("failed", True), ("complete", False)])
    replayed = await clients.ask("[[fault:slow:1]] Why?", request_id="kept")
    assert replayed.json() == reply.json()
    assert sum(clients.server.sizes) == 2


async def test_worker_killed_with_a_queue_leaves_it_to_the_others(clients: Clients) -> None:
    await start_workers(clients, "one")
    tasks = [asyncio.create_task(clients.ask(f"q{i}", priority="LOW")) for i in range(3)]
    await asyncio.sleep(0.5)
    clients.fleet.signal("one", signal.SIGKILL)
    await start_workers(clients, "two")
    replies = await asyncio.gather(*tasks)
    assert [reply.json()["text"] for reply in replies] == [answer_prompt(f"q{i}") for i in range(3)]
    assert clients.server.sizes == [3], "the batch is as full as it would have been"


async def test_door_killed_with_a_queue_loses_none_of_it(clients: Clients) -> None:
    await start_workers(clients, "one")
    door = next(name for name in clients.fleet.processes if name.startswith("web"))
    tasks = [
        asyncio.create_task(clients.ask(f"q{i}", priority="LOW", web=0, request_id=f"id {i}"))
        for i in range(3)
    ]
    await asyncio.sleep(0.5)
    clients.fleet.signal(door, signal.SIGKILL)
    await asyncio.gather(*tasks, return_exceptions=True)
    again = [
        await clients.ask(f"q{i}", priority="LOW", web=1, request_id=f"id {i}") for i in range(3)
    ]
    assert [reply.json()["text"] for reply in again] == [answer_prompt(f"q{i}") for i in range(3)]
    assert clients.server.sizes == [3], "one model item for each id"
