"""What one entry of the demo history consists of, and the requests in it."""

import dataclasses
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Generic, TypeVar

from django.db.models import Model
from django.db.models.base import ModelState

from batching.demo.texts import draw_prompt, draw_usernames
from batching.engine.errors import Cancelled, GatewayError, TimedOut
from batching.engine.lanes import LaneRule
from batching.models import Batch, ModelCall
from chats.models import Chat, Status

DEMO_OWNER = "seed_demo"
"""stands where a process's name stands otherwise; those all have a `#`"""

CANCELLED = 0.8  # of the requests that never left the queue; the others expired


Row = TypeVar("Row", bound=Model)


class Mould(Generic[Row]):
    """Makes unsaved rows alike in `values`: Django's constructor takes as long as the database."""

    def __init__(self, model: type[Row], **values: Any) -> None:
        self._model = model
        self._values = {k: v for k, v in vars(model(**values)).items() if k != "_state"}

    def make(self, **values: Any) -> Row:
        row = self._model.__new__(self._model)
        row.__dict__.update(self._values, _state=ModelState(), **values)
        return row


_CHATS = Mould(Chat, owner=DEMO_OWNER, rolled_up=True)


@dataclass(frozen=True, slots=True)
class Weather:
    """How the model service does: `slowness` stretches its calls, `refusing` is a probability."""

    slowness: float = 1.0
    refusing: float = 0.008


@dataclass(slots=True)
class DemoBatch:
    """Unsaved rows of one claim; without a `batch` those of a request that never left the queue.

    A call's `item_ids` are places in `chats` until these have ids.
    """

    batch: Batch | None
    chats: list[Chat]
    calls: list[ModelCall]


@dataclass(frozen=True, slots=True)
class Departure:
    """When, how many and under which rule a batch leaves."""

    at: datetime
    size: int
    rule: LaneRule
    model: str
    weather: Weather = Weather()


@lru_cache(maxsize=8)
def describe_rule(rule: LaneRule) -> dict[str, object]:
    """As a batch keeps it."""
    described = dataclasses.asdict(rule)
    described["latency_ms"] = round(described.pop("latency_s") * 1000)
    return described


def make_unsent(chance: random.Random, departure: Departure) -> DemoBatch:
    """One request that was cancelled, or expired, in the queue."""
    rule = departure.rule
    chat, _ = make_chat(chance, rule, at=departure.at, username=draw_usernames(chance, count=1)[0])
    error: GatewayError
    if chance.random() < CANCELLED:
        chat.status, error = Status.CANCELLED.value, Cancelled()
        wait_s = min(rule.window_s, rule.latency_s)
        chat.completed_at = chat.received_at + timedelta(seconds=chance.random() * wait_s)
    else:
        chat.status, error = Status.EXPIRED.value, TimedOut()
        chat.completed_at = chat.deadline
    chat.error_code, chat.error_detail = error.code, str(error)
    return DemoBatch(None, [chat], [])


def make_chat(
    chance: random.Random, rule: LaneRule, *, at: datetime, username: str
) -> tuple[Chat, str]:
    """A chat received at `at` without an end, and the subject of its prompt."""
    prompt, subject = draw_prompt(chance)
    chat = _CHATS.make(
        username=username,
        # Led by the time, as UUIDv7 is: so the indexes grow at their ends.
        request_id=f"{int(at.timestamp() * 1000):012x}7{chance.getrandbits(76):019x}",
        prompt=prompt,
        priority=int(rule.priority),
        created_at=at,
        received_at=at,
        due_at=at + timedelta(seconds=rule.window_s),
        deadline=at + timedelta(seconds=rule.longest_wait_s),
    )
    return chat, subject
