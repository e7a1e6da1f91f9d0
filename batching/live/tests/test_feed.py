"""The frames that /ws/live sends while real requests are answered, and what they cost."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from batching.engine.capacity import Capacity
from batching.live import feed as feed_module
from batching.live import relay, snapshot
from batching.live.feed import Watcher
from batching.llm.simulated.answers import MARK
from batching.models import CallStatus
from batching.sockets.socket import Socket
from batching.store.model_status import read_model_state
from batching.telemetry.live_events import MAX_EVENTS, REPORTER, Reporter
from batching.tests.harness import LIMIT_S, Harness, wait_until
from batching.tests.rows import make_batch, make_call
from batching.tests.sockets import SocketClient, connected
from chats.models import Status
from chats.tests.rows import make_chat
from settings_app.models import Priority
from settings_app.snapshot import forget_snapshot

SECRET = "a prompt that only its requester may read"


@pytest.fixture(autouse=True)
def _patient_reporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps events even if a busy machine delays the feed by seconds."""
    monkeypatch.setattr(relay, "LOCAL_WATCHED_S", 60.0)


class FrameLog:
    """Every frame that one watcher received."""

    def __init__(self, client: SocketClient) -> None:
        self._client = client
        self.frames: list[dict[str, Any]] = []

    async def read_until(
        self, done: Callable[["FrameLog"], bool], seconds: float = LIMIT_S
    ) -> None:
        async with asyncio.timeout(seconds):
            while not done(self):
                self.frames.append(await self._client.receive(seconds))

    @property
    def states(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == "state"]

    def events(self, kind: str) -> list[dict[str, Any]]:
        frames = [frame for frame in self.frames if frame["type"] == "events"]
        return [event for frame in frames for event in frame["events"] if event["kind"] == kind]

    def ids(self, kind: str) -> list[int]:
        return [item["id"] for event in self.events(kind) for item in event["items"]]


async def test_first_frame_shows_queue_running_batches_and_outcomes(harness: Harness) -> None:
    await harness.ask_all(["one", "two"])
    await harness.settle()
    await harness.change_lane(Priority.LOW, window_s=20)
    headers = {"Prefer": "respond-async"}
    for name in ("ann", "bob"):
        body = {"username": name, "prompt": SECRET, "priority": "LOW"}
        await harness.client.post("/v1/query", json=body, headers=headers)
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
    state = log.states[0]
    low = state["lanes"]["LOW"]
    assert (low["depth"], low["window_s"], low["max_batch"]) == (2, 20.0, 4)
    assert [item["username"] for item in low["queued"]] == ["ann", "bob"]
    assert 0 < low["due_in_ms"] <= 20_000
    assert all(0 <= item["age_ms"] < 20_000 for item in low["queued"])
    assert state["lanes"]["HIGH"]["queued"] == []
    assert state["running"] == []
    assert [(end["lane"], end["size"], end["answered"]) for end in state["outcomes"]] == [
        ("HIGH", 2, 2)
    ]
    assert state["model"] == {"state": "ok", "level": "info", "text": "The model answers."}


async def test_events_name_every_request_once_at_each_step(harness: Harness) -> None:
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
        prompts = [f"{SECRET} {n}" for n in range(20)]
        replies = await harness.ask_all(prompts)
        await log.read_until(lambda log: len(log.events("item_ended")) >= 20)
        await log.read_until(
            lambda log: len(log.events("batch_ended")) >= len(log.events("dispatched"))
        )
    assert [reply.status_code for reply in replies] == [200] * 20
    accepted, dispatched = Counter(log.ids("accepted")), Counter(log.ids("dispatched"))
    ended = Counter(event["id"] for event in log.events("item_ended"))
    assert len(accepted) == 20
    assert accepted == dispatched == ended
    batches = {event["batch_id"]: event for event in log.events("batch_ended")}
    assert sum(batch["answered"] for batch in batches.values()) == 20
    assert {reply.json()["batch_id"] for reply in replies} == set(batches)
    assert len(log.events("call_started")) == len(log.events("call_ended")) == len(batches)
    assert all(event["batch_id"] in batches for event in log.events("item_ended"))
    everything = json.dumps(log.frames)
    assert SECRET not in everything
    assert MARK.strip() not in everything
    last = [frame for frame in log.frames if frame["type"] == "events"][-1]
    assert last["depths"] == {"HIGH": 0, "MEDIUM": 0, "LOW": 0}


async def test_frames_combine_events(harness: Harness) -> None:
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(3):
            await harness.ask_all([f"{n}" for n in range(24)])
        await log.read_until(lambda log: len(log.events("item_ended")) >= 72)
        lasted = loop.time() - began
    frames = [frame for frame in log.frames if frame["type"] == "events"]
    assert len(frames) <= 2 + lasted / feed_module.FRAME_S
    assert sum(len(frame["events"]) for frame in frames) > 100


async def test_cancelled_request_leaves_the_queue(harness: Harness) -> None:
    await harness.change_lane(Priority.LOW, window_s=20)
    async with connected() as client:
        log = FrameLog(client)
        body = {"username": "ann", "prompt": "Why?", "priority": "LOW", "request_id": "r"}
        await harness.client.post("/v1/query", json=body, headers={"Prefer": "respond-async"})
        await log.read_until(lambda log: bool(log.states))
        assert (await harness.client.delete("/v1/query/r")).status_code == 200
        await log.read_until(lambda log: bool(log.events("left")))
    assert log.events("left")[0]["reason"] == "cancelled"
    assert [f for f in log.frames if f["type"] == "events"][-1]["depths"]["LOW"] == 0


async def test_changed_settings_are_shown(harness: Harness) -> None:
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
        patch = {"high_priority": {"max_batch": 3}}
        reply = await harness.client.patch("/v1/settings", json=patch)
        assert reply.status_code == 200, reply.text
        await log.read_until(lambda log: log.states[-1]["lanes"]["HIGH"]["max_batch"] == 3)


@pytest.mark.parametrize(
    ("code", "detail", "state"),
    [
        ("upstream_rejected_key", "The model service rejected it.", "key_refused"),
        ("upstream_unavailable", "The model's daily quota is used up.", "quota"),
        ("upstream_unavailable", "The model service answered 429 RESOURCE_EXHAUSTED.", "quota"),
        ("upstream_unavailable", "It could not be reached (ConnectError).", "failing"),
    ],
)
async def test_state_of_the_model_is_shown(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, code: str, detail: str, state: str
) -> None:
    monkeypatch.setattr(feed_module, "MODEL_INTERVAL_S", 0.05)
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
        await sync_to_async(make_failed_call)(code, detail)
        await log.read_until(lambda log: bool(log.events("model")))
    model = log.events("model")[0]["model"]
    assert (model["state"], model["level"]) == (state, "bad")
    assert detail in model["text"]


def make_failed_call(code: str, detail: str) -> None:
    make_call(make_batch(), status=CallStatus.FAILED, error_code=code, error_detail=detail)


@pytest.mark.django_db
def test_open_breaker_and_missing_key_have_their_own_states(settings: Any) -> None:
    settings.GEMINI_API_KEY = "test-key-0123456789"
    capacity = Capacity(16, 4, (None, None, None), paused_s=3.0, down=True)
    assert read_model_state(capacity)["state"] == "breaker_open"
    for debug, state in ((True, "simulated"), (False, "no_api_key")):
        settings.GEMINI_API_KEY, settings.DEBUG, settings.GEMINI_BASE_URL = "", debug, ""
        forget_snapshot()
        assert read_model_state(None)["state"] == state


async def test_nothing_is_computed_when_nobody_watches(harness: Harness) -> None:
    assert harness.runtime.feed is None
    await harness.ask()
    assert REPORTER.take(10) == []
    async with connected() as client:
        await FrameLog(client).read_until(lambda log: bool(log.states))
    feed = harness.runtime.feed
    await wait_until(lambda: feed._board is None)
    assert not feed._watchers


async def test_fifty_watchers_receive_the_same_frames_from_one_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(feed_module, "BOARD_INTERVAL_S", 3600.0)
    read = feed_module.read_board
    monkeypatch.setattr(feed_module, "read_board", lambda now: reads.append(now) or read(now))
    clients = [SocketClient("/ws/live") for _ in range(50)]
    logs = [FrameLog(client) for client in clients]
    for client in clients:
        await client.connect()
    await asyncio.gather(*(log.read_until(lambda log: bool(log.states)) for log in logs))
    await harness.ask_all(["one", "two", "three"])
    done = lambda log: len(log.events("item_ended")) >= 3  # noqa: E731
    await asyncio.gather(*(log.read_until(done) for log in logs))
    assert {tuple(sorted(log.ids("dispatched"))) for log in logs} == {
        tuple(sorted(logs[0].ids("dispatched")))
    }
    assert len(reads) <= 2
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "send live frames"]
    assert len(tasks) == 50
    for client in clients:
        await client.leave()
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "send live frames"]
    assert tasks == []


async def test_watcher_that_falls_behind_receives_the_state_instead_of_missed_events() -> None:
    sent, may_send = [], asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["text"])
        await may_send.wait()

    watcher = Watcher(Socket(None, send, None), describe=lambda: "state")
    task = asyncio.create_task(watcher.send())
    watcher.refresh()
    await asyncio.sleep(0)
    for number in range(1000):
        watcher.offer(f"event {number}")
    assert len(watcher._frames) <= feed_module.MAX_FRAMES
    may_send.set()
    await wait_until(lambda: len(sent) == 2)
    assert sent == ["state", "state"]
    watcher.offer("event 1000")
    await wait_until(lambda: len(sent) == 3)
    assert sent[-1] == "event 1000"
    task.cancel()


async def test_flood_of_events_is_replaced_by_the_whole_state(harness: Harness) -> None:
    async with connected() as client:
        log = FrameLog(client)
        await log.read_until(lambda log: bool(log.states))
        for number in range(MAX_EVENTS + 1):
            REPORTER.report("left", ids=[number], reason="cancelled")
        await log.read_until(lambda log: len(log.states) >= 2)
    assert log.events("left") == []


def test_unwatched_reporter_keeps_no_events() -> None:
    reporter = Reporter(clock=lambda: 100.0)
    reporter.report("left", ids=[1], reason="cancelled")
    assert reporter.take(9) == []
    reporter.watch(seconds=1)
    reporter.report("left", ids=[1], reason="cancelled")
    assert reporter.take(9) == [{"kind": "left", "ids": [1], "reason": "cancelled"}]


@pytest.mark.django_db
def test_requests_of_a_long_queue_that_are_not_listed_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "MAX_LISTED", 3)
    for _ in range(5):
        make_chat(Status.QUEUED, priority=2)
    board = snapshot.read_board(1000.0)
    assert len(board.waiting) == 3
    assert board.count_waiting() == {"HIGH": 5, "MEDIUM": 0, "LOW": 0}
