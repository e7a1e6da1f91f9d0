"""The state that the live page shows. Pure: time is an argument, in seconds.

Events may arrive twice, late or not at all. The database is read again every few seconds.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from batching.engine.lanes import LaneRule, Priority
from batching.telemetry.live_events import Event

MAX_SHOWN = 60
MAX_RUNNING = 100
MAX_OUTCOMES = 20
MAX_LEFT = 10_000


@dataclass(slots=True)
class WaitingRequest:
    id: int
    lane: str
    username: str
    accepted: float
    due: float

    def describe(self, now: float) -> Event:
        return {
            "id": self.id,
            "username": self.username,
            "age_ms": _milliseconds(now - self.accepted),
            "due_in_ms": _milliseconds(self.due - now),
        }


@dataclass(slots=True)
class RunningBatch:
    """`items` maps the id of a chat to its username, `ended` to "" or the code of its error, and
    `calls` maps the id of a running call to its start."""

    id: int
    lane: str
    trigger: str
    began: float
    items: dict[int, str]
    ended: dict[int, str] = field(default_factory=dict)
    calls: dict[int, float] = field(default_factory=dict)
    calls_made: int = 0

    def describe(self, now: float) -> Event:
        return {
            "batch_id": self.id,
            "lane": self.lane,
            "trigger": self.trigger,
            "age_ms": _milliseconds(now - self.began),
            "items": [{"id": key, "username": name} for key, name in self.items.items()],
            "ended": [{"id": key, "code": code} for key, code in self.ended.items()],
            "calls": [
                {"call_id": key, "age_ms": _milliseconds(now - began)}
                for key, began in self.calls.items()
            ],
        }

    def describe_outcome(self, now: float) -> Event:
        failed = sum(1 for code in self.ended.values() if code)
        return {
            "batch_id": self.id,
            "lane": self.lane,
            "size": len(self.items),
            "answered": len(self.ended) - failed,
            "failed": failed,
            "calls": self.calls_made,
            "duration_ms": _milliseconds(now - self.began),
        }


class Board:
    """`unlisted` counts queued requests that `waiting` does not hold, by lane.

    The newest of the `outcomes` is the first. `left` holds the ids of requests that left the queue:
    a late `accepted` event must not return them to it.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, WaitingRequest] = {}
        self.unlisted = dict.fromkeys(Priority.__members__, 0)
        self.running: dict[int, RunningBatch] = {}
        self.outcomes: deque[Event] = deque(maxlen=MAX_OUTCOMES)
        self.left: dict[int, None] = {}

    def apply(self, event: Event, now: float) -> Event:
        """Returns the event with the fields that only the board knows."""
        match event["kind"]:
            case "accepted":
                for item in event["items"]:
                    self._accept(item, now)
            case "left":
                self._leave(event["ids"], "")
            case "dispatched":
                self._dispatch(event, now)
            case "call_started" if batch := self.running.get(event["batch_id"]):
                batch.calls_made += event["call_id"] not in batch.calls
                batch.calls[event["call_id"]] = now
            case "call_ended" if batch := self.running.get(event["batch_id"]):
                batch.calls.pop(event["call_id"], None)
            case "item_ended":
                return self._end_item(event)
            case "batch_ended":
                return self._end_batch(event, now)
        return event

    def describe(self, now: float, rules: Mapping[Priority, LaneRule]) -> Event:
        depths = self.count_waiting()
        lanes = {}
        for rule in rules.values():
            name = rule.priority.name
            waiting = [item for item in self.waiting.values() if item.lane == name]
            due = min((item.due for item in waiting), default=None)
            lanes[name] = {
                "window_s": rule.window_s,
                "max_batch": rule.max_batch,
                "latency_ms": _milliseconds(rule.latency_s),
                "max_queue": rule.max_queue,
                "depth": depths[name],
                "due_in_ms": None if due is None else _milliseconds(due - now),
                "queued": [item.describe(now) for item in waiting[:MAX_SHOWN]],
            }
        running = list(self.running.values())[:MAX_RUNNING]
        return {
            "lanes": lanes,
            "running": [batch.describe(now) for batch in running],
            "outcomes": list(self.outcomes),
        }

    def count_waiting(self) -> dict[str, int]:
        depths = dict(self.unlisted)
        for item in self.waiting.values():
            depths[item.lane] += 1
        return depths

    def _accept(self, item: Event, now: float) -> None:
        if item["id"] not in self.left:
            accepted, due = now - item["age_ms"] / 1000, now + item["due_in_ms"] / 1000
            waiting = WaitingRequest(item["id"], item["lane"], item["username"], accepted, due)
            self.waiting.setdefault(item["id"], waiting)

    def _leave(self, ids: list[int], lane: str) -> None:
        for item_id in ids:
            listed = self.waiting.pop(item_id, None) is not None
            if not listed and lane and item_id not in self.left and self.unlisted[lane]:
                self.unlisted[lane] -= 1
            self.left[item_id] = None
        while len(self.left) > MAX_LEFT:
            del self.left[next(iter(self.left))]

    def _dispatch(self, event: Event, now: float) -> None:
        self._leave([item["id"] for item in event["items"]], event["lane"])
        known = event["batch_id"] in self.running
        if not known and all(end["batch_id"] != event["batch_id"] for end in self.outcomes):
            items = {item["id"]: item["username"] for item in event["items"]}
            batch = RunningBatch(event["batch_id"], event["lane"], event["trigger"], now, items)
            self.running[batch.id] = batch

    def _end_item(self, event: Event) -> Event:
        for batch in self.running.values():
            if event["id"] in batch.items:
                batch.ended[event["id"]] = event["code"]
                return event | {"batch_id": batch.id, "lane": batch.lane}
        return event

    def _end_batch(self, event: Event, now: float) -> Event:
        batch = self.running.pop(event["batch_id"], None)
        if batch is None:
            return event
        outcome = batch.describe_outcome(now)
        self.outcomes.appendleft(outcome)
        return event | outcome


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
