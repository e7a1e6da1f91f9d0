"""Several processes form full batches and answer each request once, even if one is killed."""

import asyncio
import random
import signal
from collections import Counter

import httpx2
import psycopg
import pytest

from batching.llm.simulated.answers import answer_prompt
from llmbatch.tests.fixtures.fleet import LEASE_S, Clients, fleet_marks, set_workers, start_workers
from llmbatch.tests.fixtures.server import PATIENCE_S

pytestmark = fleet_marks()

WAITING = "SELECT count(*) FROM chats_chat WHERE status = 'queued'"
CALLS = "SELECT status, perhaps_billed FROM batching_modelcall ORDER BY id"


async def test_two_workers_form_no_early_batch_and_mix_up_no_answers(clients: Clients) -> None:
    await set_workers(clients, "one", "two")
    chance, tasks = random.Random(3), []
    for index in range(200):
        tasks.append(asyncio.create_task(clients.ask(f"question {index}.")))
        await asyncio.sleep(chance.expovariate(100))
    replies = await asyncio.gather(*tasks)
    assert Counter(reply.status_code for reply in replies) == {200: 200}
    for index, reply in enumerate(replies):
        assert reply.json()["text"] == answer_prompt(f"question {index}.")
    rows = clients.fleet.query(
        "SELECT b.size, count(c.id), extract(epoch FROM b.created_at - min(c.received_at))"
        " FROM batching_batch b JOIN chats_chat c ON c.batch_id = b.id GROUP BY b.id"
    )
    assert sum(count for _, count, _ in rows) == 200
    early = [row for row in rows if row[0] < 6 and row[2] < 0.19]
    assert early == []
    assert sum(clients.server.sizes) == 200, "no request was sent twice"
    assert all(size == count for size, count, _ in rows)
    await until_all_take_part(clients, workers=2)


async def until_all_take_part(clients: Clients, *, workers: int) -> None:
    """Sends requests until every worker has run a batch; a slow one needs more of them."""
    async with asyncio.timeout(PATIENCE_S):
        while len(clients.fleet.query("SELECT DISTINCT owner FROM batching_batch")) < workers:
            await asyncio.gather(*(clients.ask("One more.") for _ in range(24)))


async def test_worker_that_stalled_forms_full_batches(clients: Clients) -> None:
    """It reads the announcements one after another, when every row is committed already."""
    await set_workers(clients, "one")
    clients.fleet.signal("one", signal.SIGSTOP)
    tasks = [asyncio.create_task(clients.ask(f"question {index}.")) for index in range(13)]
    await clients.fleet.until(WAITING, [(13,)])
    await asyncio.sleep(0.3)  # longer than the window
    clients.fleet.signal("one", signal.SIGCONT)
    replies = await asyncio.gather(*tasks)
    assert [reply.json()["text"] for reply in replies] == [
        answer_prompt(f"question {index}.") for index in range(13)
    ]
    assert sorted(clients.server.sizes) == [1, 6, 6]


async def test_same_id_at_both_web_processes_is_sent_once(clients: Clients) -> None:
    await set_workers(clients, "one", "two")
    replies = await asyncio.gather(*(clients.ask("Why?", request_id="same") for _ in range(50)))
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json() == replies[0].json() for reply in replies)
    assert sum(clients.server.sizes) == 1


async def test_worker_killed_during_a_call_loses_no_request(clients: Clients) -> None:
    await set_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow-10:1]] Why?"))
    await clients.server.wait_for_calls(1)
    clients.fleet.kill("one")
    clients.fleet.expire_leases()
    await start_workers(clients, "one")
    reply = await asking
    assert reply.json()["text"] == answer_prompt("[[fault:slow-10:1]] Why?")
    assert clients.fleet.query("SELECT attempt FROM chats_chat") == [(2,)]
    await clients.fleet.until(CALLS, [("failed", True), ("complete", False)])
    await clients.fleet.demand_agreeing_books()


async def test_suspended_worker_does_not_overwrite_the_answer_of_another(
    clients: Clients,
) -> None:
    await set_workers(clients, "one")
    prompt = "[[fault:slow:1]] Why?"
    asking = asyncio.create_task(clients.ask(prompt))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGSTOP)
    lease = "SELECT extract(epoch FROM lease_until - dispatched_at) FROM chats_chat"
    assert clients.fleet.query(lease)[0][0] >= LEASE_S
    [(ends,)] = clients.fleet.query(
        "UPDATE chats_chat SET lease_until = now() + interval '3 s' RETURNING lease_until"
    )
    await start_workers(clients, "two")
    reply = await asking
    assert reply.json()["text"] == answer_prompt(prompt)
    before = clients.fleet.query("SELECT owner, attempt, text, completed_at FROM chats_chat")
    assert before[0][0].startswith("two#")
    assert clients.fleet.query("SELECT dispatched_at FROM chats_chat")[0][0] >= ends
    clients.fleet.signal("one", signal.SIGCONT)
    await asyncio.sleep(2)  # it reads the pending reply of the model
    assert (
        clients.fleet.query("SELECT owner, attempt, text, completed_at FROM chats_chat") == before
    )
    await clients.fleet.demand_agreeing_books()


async def test_data_loss_in_redis_delays_requests_only(clients: Clients) -> None:
    await set_workers(clients, "one")
    assert (await clients.ask("before")).status_code == 200
    tasks = [asyncio.create_task(clients.ask(f"q{index}")) for index in range(20)]
    await asyncio.sleep(0.02)
    clients.fleet.redis.client_kill_filter(_type="pubsub")
    clients.fleet.redis.flushdb()
    replies = await asyncio.gather(*tasks)
    assert {reply.status_code for reply in replies} == {200}
    assert (await clients.ask("after")).status_code == 200
    assert sum(clients.server.sizes) == 22


async def test_worker_finishes_its_calls_after_sigterm(clients: Clients) -> None:
    await set_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow]] Why?"))
    await clients.server.wait_for_calls(1)
    clients.fleet.signal("one", signal.SIGTERM)
    assert (await asking).status_code == 200
    code = await asyncio.to_thread(clients.fleet.processes["one"].wait, PATIENCE_S)
    assert code == 0
    assert sum(clients.server.sizes) == 1


async def test_accepted_request_survives_the_death_of_its_web_process(clients: Clients) -> None:
    await set_workers(clients, "one")
    name = clients.fleet.web_name(clients.fleet.urls[0])
    asking = asyncio.create_task(
        clients.ask("[[fault:slow]] Why?", web=0, request_id="kept", username="bob")
    )
    await clients.server.wait_for_calls(1)
    clients.fleet.kill(name)
    with pytest.raises(httpx2.HTTPError):
        await asking
    await clients.fleet.until("SELECT status FROM chats_chat", [("done",)])
    async with httpx2.AsyncClient(timeout=60) as http:
        state = await http.get(f"{clients.fleet.urls[1]}/v1/query/kept")
    assert state.json()["response"]["text"] == answer_prompt("[[fault:slow]] Why?")
    await clients.fleet.demand_agreeing_books()


async def test_call_of_a_worker_killed_before_its_record_is_repeated_once(
    clients: Clients,
) -> None:
    """The test holds the row's lock, so the worker has the answer but cannot store it."""
    await set_workers(clients, "one")
    asking = asyncio.create_task(clients.ask("[[fault:slow:1]] Why?", request_id="kept"))
    await clients.server.wait_for_calls(1)
    with psycopg.connect(clients.fleet.database_url) as connection:
        connection.execute("SELECT 1 FROM chats_chat FOR UPDATE")
        await clients.server.wait_until_idle()
        await asyncio.sleep(2)  # the reply is read by now
        assert not asking.done(), "an answer is stored before it is sent"
        clients.fleet.kill("one")
    clients.fleet.expire_leases()
    await start_workers(clients, "one")
    reply = await asking
    assert reply.json()["text"] == answer_prompt("[[fault:slow:1]] Why?")
    assert clients.fleet.query("SELECT status, attempt FROM chats_chat") == [("done", 2)]
    await clients.fleet.until(CALLS, [("failed", True), ("complete", False)])
    replayed = await clients.ask("[[fault:slow:1]] Why?", request_id="kept")
    assert replayed.json() == reply.json()
    assert sum(clients.server.sizes) == 2
    await clients.fleet.demand_agreeing_books()


async def test_queue_of_a_killed_worker_is_batched_by_another(clients: Clients) -> None:
    await set_workers(clients, "one")
    tasks = [asyncio.create_task(clients.ask(f"q{i}", priority="LOW")) for i in range(3)]
    await clients.fleet.until(WAITING, [(3,)])
    clients.fleet.kill("one")
    await start_workers(clients, "two")
    tasks.append(asyncio.create_task(clients.ask("q3", priority="LOW")))
    replies = await asyncio.gather(*tasks)
    assert [reply.json()["text"] for reply in replies] == [answer_prompt(f"q{i}") for i in range(4)]
    assert clients.server.sizes == [4], "one full batch"


async def test_queue_of_a_killed_web_process_is_kept(clients: Clients) -> None:
    await set_workers(clients, "one")

    def ask(number: int, *, web: int) -> asyncio.Task[httpx2.Response]:
        asked = clients.ask(f"q{number}", priority="LOW", web=web, request_id=f"id {number}")
        return asyncio.create_task(asked)

    tasks = [ask(number, web=0) for number in range(3)]
    await clients.fleet.until(WAITING, [(3,)])
    clients.fleet.kill(clients.fleet.web_name(clients.fleet.urls[0]))
    await asyncio.gather(*tasks, return_exceptions=True)
    again = await asyncio.gather(*(ask(number, web=1) for number in range(4)))
    assert [reply.json()["text"] for reply in again] == [answer_prompt(f"q{i}") for i in range(4)]
    assert clients.server.sizes == [4], "one item for each ID"
    await clients.fleet.demand_agreeing_books()
