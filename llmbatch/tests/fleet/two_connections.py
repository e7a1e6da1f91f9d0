"""What two processes do to the same rows at once: each thread has its own connection to Postgres.

Run as a program, because the settings of the tests name SQLite. Prints one JSON object.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from batching.engine.lanes import Priority  # noqa: E402
from batching.engine.planner import Batch, Trigger  # noqa: E402
from batching.store.claiming import ClaimRequest, claim_batches  # noqa: E402
from batching.store.lane_rules import current_rules  # noqa: E402
from batching.store.queue import read_waiting  # noqa: E402
from batching.worker.pending_writes import Completion, PendingWrites  # noqa: E402
from batching.worker.recorder import _store  # noqa: E402
from chats import submission  # noqa: E402
from chats.leases import renew_leases  # noqa: E402
from chats.models import Chat, Status  # noqa: E402
from chats.services import Finish  # noqa: E402
from settings_app.snapshot import refresh_snapshot  # noqa: E402

LIMIT_S = 60.0
ATTEMPT = submission._store
# Each inserted row takes a while, so that two statements overlap on any machine.
SLOW_INSERTS = """
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON chats_chat FOR EACH ROW EXECUTE FUNCTION take_time();
"""


def run_at_once(*bodies: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(bodies)) as pool:
        futures = [pool.submit(body) for body in bodies]
        return [future.result(LIMIT_S) for future in futures]


def make_chat(name: str, **columns: Any) -> Chat:
    now = datetime.now(UTC)
    values = {"username": "ann", "request_id": name, "prompt": "Why?", "priority": Priority.HIGH}
    times = {"created_at": now, "received_at": now, "due_at": now}
    return Chat(**(values | times | {"deadline": now + timedelta(seconds=600)} | columns))


def submit(names: list[str]) -> list[str]:
    chats = [make_chat(name) for name in names]
    named = {submission.request_key(chat) for chat in chats}
    return [type(result).__name__ for result in submission.submit_chats(chats, named=named)]


def record_failures() -> list[str]:
    """The failures of all attempts from now on."""
    failures: list[str] = []

    def observed(*arguments: Any) -> Any:
        try:
            return ATTEMPT(*arguments)
        except Exception as error:
            failures.append(type(error).__name__)
            raise

    submission._store = observed
    return failures


def submit_in_opposite_orders() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(SLOW_INSERTS)
    failures, barrier = record_failures(), threading.Barrier(2)
    names = [f"r{number}" for number in range(10)]

    def submit_together(ids: list[str]) -> list[str]:
        connection.ensure_connection()
        barrier.wait(LIMIT_S)
        return submit(ids)

    both = run_at_once(
        lambda: submit_together([*names, "one"]), lambda: submit_together(["two", *names[::-1]])
    )
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER slow ON chats_chat")
    waiters = dict(Chat.objects.values_list("request_id", "waiters"))
    Chat.objects.all().delete()
    return {"results": both, "waiters": waiters, "failures": failures}


def submit_in_any_order() -> dict[str, Any]:
    results = submit(["z", "b", "y", "a", "x"])
    stored = list(Chat.objects.order_by("pk").values_list("request_id", flat=True))
    Chat.objects.all().delete()
    return {"results": results, "stored": stored}


def submit_during_a_deadlock() -> dict[str, Any]:
    failures = record_failures()
    for name in ("a", "b"):
        make_chat(name, status=Status.FAILED, error_code="blocked").save()
    locked = threading.Event()

    def lock_backwards() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '50 s'")  # the other one is ended
            Chat.objects.select_for_update().get(request_id="b")
            locked.set()
            wait_until_blocked()
            Chat.objects.select_for_update().get(request_id="a")

    def submit_both() -> list[str]:
        locked.wait(LIMIT_S)
        return submit(["a", "b", "c"])

    _, results = run_at_once(lock_backwards, submit_both)
    Chat.objects.all().delete()
    return {"results": results, "failures": failures}


def claim_at_once() -> dict[str, Any]:
    """Two workers planned the same first request; one of them also planned another one."""
    refresh_snapshot()
    ids = []
    for number in range(14):
        chat = make_chat(f"c{number}")
        chat.save()
        ids.append(chat.pk)
    claimed, tried = threading.Event(), threading.Event()

    def claim(*planned_ids: int) -> list[list[int]]:
        rules = current_rules()
        items = read_waiting(planned_ids, rules=rules)
        planned = [
            Batch(Priority.HIGH, (replace(item, due=0.0),), Trigger.WINDOW, at=1.0, lateness_s=0.0)
            for item in items
        ]
        requests = [ClaimRequest(batch, rules[Priority.HIGH], "m") for batch in planned]
        claims = claim_batches(requests, owner="w")
        return [[ids.index(i.id) for i in c.batch.items] if c.batch else [] for c in claims]

    def claim_first() -> list[list[int]]:
        with transaction.atomic():
            found = claim(ids[0])
            claimed.set()
            tried.wait(LIMIT_S)
        return found

    def claim_second() -> list[list[int]]:
        claimed.wait(LIMIT_S)
        try:
            return claim(ids[0]) + claim(ids[7])
        finally:
            tried.set()

    first, second = run_at_once(claim_first, claim_second)
    return {"first": first, "second": second}


def lock_in_order(write: Callable[[int, int], object]) -> dict[str, Any]:
    """`write` gets two running chats while another transaction locks them in the order of ids."""
    chats = [
        make_chat(name, status=Status.RUNNING, owner="w", attempt=1, lease_until=datetime.now(UTC))
        for name in ("first", "second")
    ]
    for chat in chats:
        chat.save()
    chats[0].save()  # Its new version is stored behind the second chat.
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE chats_chat")  # Of a small table, Postgres uses no index.
    first, second = (chat.pk for chat in chats)
    locked = threading.Event()

    def lock_both() -> None:
        with transaction.atomic():
            Chat.objects.select_for_update().get(pk=first)
            locked.set()
            wait_until_blocked()
            Chat.objects.select_for_update().get(pk=second)

    def write_both() -> None:
        locked.wait(LIMIT_S)
        write(first, second)

    failures = []
    for body in run_at_once(lambda: find_failure(lock_both), lambda: find_failure(write_both)):
        failures += [body] if body else []
    Chat.objects.all().delete()
    return {"failures": failures}


def find_failure(body: Callable[[], object]) -> str:
    try:
        body()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def wait_until_blocked() -> None:
    """Returns when another session of this database waits for a lock."""
    with connection.cursor() as cursor:
        for _ in range(round(LIMIT_S / 0.01)):
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone():
                return
            time.sleep(0.01)


def renew_leases_while_chats_end() -> dict[str, Any]:
    return lock_in_order(lambda first, second: renew_leases([second, first], owner="w"))


def store_an_answer_and_shares_of_others() -> dict[str, Any]:
    refresh_snapshot()

    def write(first: int, second: int) -> None:
        pending = PendingWrites(suspicions={first: "It may have leaked."})
        values = {"status": Status.DONE, "text": "x", "completed_at": datetime.now(UTC)}
        finish = Finish(second, "w", 1, values)
        pending.completions[second] = Completion(finish, ANY, {}, 0.0)
        _store(pending)

    return lock_in_order(write)


SCENARIOS = [
    submit_in_opposite_orders,
    submit_in_any_order,
    submit_during_a_deadlock,
    claim_at_once,
]
SCENARIOS += [renew_leases_while_chats_end, store_an_answer_and_shares_of_others]

if __name__ == "__main__":
    json.dump({scenario.__name__: scenario() for scenario in SCENARIOS}, sys.stdout)
