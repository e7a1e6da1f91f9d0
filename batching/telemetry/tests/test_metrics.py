"""/metrics counts each step once and shows nothing that a client sent."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from django.db import OperationalError
from django.db.models import Sum

from batching.api import views
from batching.engine.errors import ERRORS_BY_CODE
from batching.engine.lanes import Priority
from batching.models import ModelCall
from batching.tests.harness import LIMIT_S, Harness, wait_until
from chats.models import Chat, Status
from llmbatch.tests.fixtures.scrape import Scrape, promtool_mark, run_promtool
from settings_app.access.tests.rows import create_api_key
from settings_app.models import Lane
from settings_app.snapshot import refresh_snapshot

ROOT = Path(__file__).resolve().parents[3]
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture(autouse=True)
def _patient_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape on a busy machine waits for the database."""
    monkeypatch.setattr(views, "METRICS_DATABASE_TIMEOUT_S", LIMIT_S)


async def scrape(harness: Harness, *, minus: Scrape | None = None) -> Scrape:
    reply = await harness.client.get("/metrics")
    assert reply.status_code == 200, reply.text
    return Scrape(reply.text, minus=minus)


async def wait_until_queue_is_empty() -> None:
    while await Chat.objects.filter(status=Status.QUEUED).aexists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def change_lane(priority: Priority, **fields: Any) -> None:
    await Lane.objects.filter(priority=priority).aupdate(**fields)
    await asyncio.to_thread(refresh_snapshot)


async def test_full_batch_is_counted_once_with_its_size_and_trigger(harness: Harness) -> None:
    before = await scrape(harness)
    await harness.ask_all([f"question {index}" for index in range(6)])
    await harness.settle()
    seen = await scrape(harness, minus=before)
    full = {"lane": "HIGH", "trigger": "full"}
    assert seen.sum("llmbatch_batch_size_count") == 1
    assert seen.sum("llmbatch_batch_size_count", **full) == 1
    assert seen.sum("llmbatch_batch_size_sum", **full) == 6
    assert seen.sum("llmbatch_batch_size_bucket", le="5.0", **full) == 0
    assert seen.sum("llmbatch_batch_size_bucket", le="6.0", **full) == 1
    assert seen.sum("llmbatch_window_lateness_seconds_count") == 0, (
        "a full batch does not wait for its window"
    )
    assert seen.sum("llmbatch_model_calls_total", lane="HIGH", outcome="answered") == 1
    assert seen.sum("llmbatch_model_call_duration_seconds_count", lane="HIGH") == 1
    assert seen.sum("llmbatch_model_first_token_seconds_count", lane="HIGH") == 1
    assert seen.sum("llmbatch_requests_total") == 6
    assert seen.sum("llmbatch_requests_total", lane="HIGH", outcome="answered") == 6
    assert seen.sum("llmbatch_added_seconds_count", lane="HIGH") == 6
    assert seen.sum("llmbatch_added_seconds_count", lane="LOW") == 0


async def test_window_batch_shows_how_late_it_was(harness: Harness) -> None:
    before = await scrape(harness)
    await harness.ask()
    await harness.settle()
    seen = await scrape(harness, minus=before)
    assert seen.sum("llmbatch_batch_size_sum", lane="HIGH", trigger="window") == 1
    assert seen.sum("llmbatch_window_lateness_seconds_count", lane="HIGH") == 1
    late_s = seen.sum("llmbatch_window_lateness_seconds_sum", lane="HIGH")
    assert late_s >= 0
    added_s = seen.sum("llmbatch_added_seconds_sum", lane="HIGH")
    chat = await Chat.objects.aget()
    assert late_s < added_s < chat.latency_ms / 1000 - 0.2, "the added time excludes the window"


async def test_time_before_a_call_slot_is_free_counts_as_added(harness: Harness) -> None:
    before = await scrape(harness)
    slots = harness.runtime.consumer.dispatcher.slots
    taken = [slots.take(Priority.HIGH) for _ in range(slots.total)]
    asking = asyncio.create_task(harness.ask())
    await wait_until(lambda: harness.runtime.gateway.counts.total(Priority.HIGH))
    await asyncio.sleep(0.5)  # counted from acceptance; 0.2 s of it are the window
    for probe in taken:
        slots.release(Priority.HIGH, probe=probe)
    assert (await asking).status_code == 200
    seen = await scrape(harness, minus=before)
    chat = await Chat.objects.aget()
    added_s = seen.sum("llmbatch_added_seconds_sum", lane="HIGH")
    assert 0.25 < added_s < chat.latency_ms / 1000 - 0.19, "the added time excludes the window"


async def test_tokens_are_those_of_the_recorded_calls(harness: Harness) -> None:
    before = await scrape(harness)
    await harness.ask_all([f"question {index}" for index in range(9)], priority="MEDIUM")
    await harness.settle()
    seen = await scrape(harness, minus=before)
    kinds = ["prompt", "output", "thoughts", "cached"]
    sums = await ModelCall.objects.aaggregate(**{k: Sum(f"{k}_tokens") for k in kinds})
    assert sums["prompt"] > 0
    counted = {k: seen.sum("llmbatch_tokens_total", lane="MEDIUM", kind=k) for k in kinds}
    assert counted == sums
    assert seen.sum("llmbatch_tokens_total") == sum(sums.values())


async def test_failures_are_counted_by_code_and_retries_as_such(harness: Harness) -> None:
    before = await scrape(harness)
    reply = await harness.ask("[[fault:blocked]] Why?")
    assert reply.json()["code"] == "blocked"
    await harness.ask("[[fault:status-500:1]] Why?")
    await harness.settle()
    seen = await scrape(harness, minus=before)
    assert seen.sum("llmbatch_requests_total", outcome="blocked") == 1
    assert seen.sum("llmbatch_requests_total") == await Chat.objects.acount()
    assert seen.sum("llmbatch_api_errors_total", code="blocked") == 1
    calls = await ModelCall.objects.acount()
    batches = seen.sum("llmbatch_batch_size_count")
    assert seen.sum("llmbatch_model_calls_total") == calls > batches
    assert seen.sum("llmbatch_model_retries_total", lane="HIGH") == calls - batches
    assert (
        seen.sum("llmbatch_added_seconds_count")
        == await Chat.objects.filter(status=Status.DONE).acount()
    ), "failures have no added time"


async def test_queue_and_waiting_clients_are_shown_while_they_wait(harness: Harness) -> None:
    await change_lane(Priority.LOW, window_s=30)
    tasks = [asyncio.create_task(harness.ask(f"q{i}", priority="LOW")) for i in range(3)]
    while await Chat.objects.acount() < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    during = await scrape(harness)
    assert during.sum("llmbatch_queue_depth", lane="LOW") == 3
    assert during.sum("llmbatch_queue_depth") == 3
    assert 0.1 <= during.sum("llmbatch_queue_oldest_age_seconds", lane="LOW") < 30
    assert during.sum("llmbatch_queue_oldest_age_seconds", lane="HIGH") == 0
    assert during.sum("llmbatch_waiting_clients") == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await wait_until_queue_is_empty()
    seen = await scrape(harness, minus=during)
    assert seen.sum("llmbatch_queue_depth") == -3
    assert seen.sum("llmbatch_waiting_clients") == -3
    assert seen.sum("llmbatch_requests_total", lane="LOW", outcome="cancelled") == 3


async def test_request_that_expired_before_a_slot_was_free_is_counted_once(
    harness: Harness,
) -> None:
    before = await scrape(harness)
    slots = harness.runtime.consumer.dispatcher.slots
    for _ in range(slots.total):
        slots.take(Priority.HIGH)
    reply = await harness.ask(timeout_s=2)
    assert reply.json()["code"] == "timeout"
    await wait_until_queue_is_empty()
    seen = await scrape(harness, minus=before)
    counted = {o: seen.sum("llmbatch_requests_total", outcome=o) for o in ("timeout", "cancelled")}
    assert sum(counted.values()) == seen.sum("llmbatch_requests_total") == 1, counted


async def test_open_breaker_is_shown(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await scrape(harness)).sum("llmbatch_breaker_open") == 0
    slots = harness.runtime.consumer.dispatcher.slots
    breaker, now = slots.breaker, time.monotonic()
    monkeypatch.setattr(slots, "_clock", lambda: now)
    for second in range(8):
        breaker.fail(now + second - 7)
    seen = await scrape(harness)
    assert seen.sum("llmbatch_breaker_open") == 1
    assert 0 < seen.sum("llmbatch_breaker_pause_seconds") <= 1


async def test_no_label_holds_what_a_client_sent(harness: Harness) -> None:
    hostile = ['mallory"} 1\nevil{x="', "läppchen\\", "'; DROP TABLE", "\u202e\U0001f600"]
    before = await scrape(harness)
    for word in hostile:
        await harness.ask(f"prompt {word}", username=word, request_id=f"id {word}")
        await harness.ask(f"[[fault:blocked]] {word}", username=word)
        await harness.ask(word, username=word, priority=word)
        await harness.client.get(f"/v1/{quote(word)}")
        await harness.client.get("/health", headers={"X-Request-Id": word.encode()})
    await harness.settle()
    seen = await scrape(harness)
    assert seen.values_of("lane") == {"HIGH", "MEDIUM", "LOW"}
    assert seen.values_of("trigger") == {"full", "window"}
    assert seen.values_of("kind") == {"prompt", "output", "thoughts", "cached"}
    assert seen.values_of("process") == {harness.runtime.name}
    known = {*ERRORS_BY_CODE, "answered"}
    assert seen.values_of("outcome") <= known
    assert seen.values_of("code") <= {
        *ERRORS_BY_CODE,
        "invalid",
        "not_found",
        "not_authenticated",
        "permission_denied",
        "method_not_allowed",
        "unsupported_media_type",
        "rate_limited",
        "internal_error",
    }
    assert seen.values_of("reason") == {"address", "idle", "slow", "total"}
    labels = {name for _, own in seen.samples for name, _ in own}
    runtime = {"version", "implementation", "major", "minor", "patchlevel", "generation"}
    own_labels = {"lane", "trigger", "kind", "process", "outcome", "code", "le", "reason"}
    assert labels == own_labels | runtime
    assert len(seen.samples) - len(before.samples) < 20


async def test_documents_name_every_metric_and_no_other(harness: Harness) -> None:
    text = (await harness.client.get("/metrics")).text
    names = set(re.findall(r"^# TYPE llmbatch_(\w+)", text, re.M))
    assert len(names) > 15
    operations = (ROOT / "docs/operations.md").read_text()
    table = operations.partition("| `llmbatch_…` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w{10,})`", table)) == names
    written = operations + (ROOT / "docs/alerts.yml").read_text()
    found = set(re.findall(r"llmbatch_(\w+)", written))
    assert {n for n in found if re.sub("_(bucket|sum|count)$", "", n) not in names} == set()


async def test_process_python_and_event_loop_are_shown(harness: Harness) -> None:
    before = await scrape(harness)
    async with asyncio.timeout(LIMIT_S):
        lag = "llmbatch_event_loop_lag_seconds_count"
        while not (await scrape(harness, minus=before)).sum(lag):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    name = harness.runtime.name
    assert before.sum("process_resident_memory_bytes", process=name) > 1e7
    assert before.sum("python_info", process=name) == 1


@promtool_mark()
async def test_promtool_accepts_the_format(harness: Harness) -> None:
    await harness.ask_all(["one", "two"])
    await harness.ask("[[fault:blocked]] Why?")
    text = (await harness.client.get("/metrics")).text
    assert run_promtool("check", "metrics", text=text) == ""
    assert run_promtool("check", "metrics", text="# TYPE a_total gauge\na_total 1\n") != ""


async def test_format_follows_the_accept_header(harness: Harness) -> None:
    plain = await harness.client.get("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    openly = await harness.client.get("/metrics", headers={"Accept": OPENMETRICS})
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert openly.headers["Content-Type"] == kind
    assert openly.text.endswith("# EOF\n")
    assert "# EOF" not in plain.text
    odd = await harness.client.get("/metrics", headers={"Accept": "text/plain;version=x, \x7f"})
    assert odd.headers["Content-Type"] == plain.headers["Content-Type"]
    assert (await harness.client.post("/metrics")).status_code == 405


async def test_without_the_database_the_process_shows_its_own_metrics(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await scrape(harness)).sum("llmbatch_database_up") == 1

    def fail(**when: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("batching.telemetry.exposition.read_queue", fail)
    seen = await scrape(harness)
    names = {name for name, _ in seen.samples}
    assert seen.sum("llmbatch_database_up") == 0
    assert "llmbatch_waiting_clients" in names
    assert "llmbatch_queue_depth" not in names, "an unknown number must not be shown"


async def test_only_staff_reads_them_unless_access_is_open(harness: Harness, settings: Any) -> None:
    settings.API_ACCESS = "key"

    async def ask(**fields: Any) -> httpx2.Response:
        _, key = await asyncio.to_thread(lambda: create_api_key(name="k", **fields))
        return await harness.client.get("/metrics", headers={"Authorization": f"Bearer {key}"})

    nobody = await harness.client.get("/metrics")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "not_authenticated")
    assert (await ask()).status_code == 403
    staff = await ask(is_staff=True)
    assert staff.status_code == 200
    assert "llmbatch_queue_depth" in staff.text
