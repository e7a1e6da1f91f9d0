"""What the door knows of the machine behind it, in this process or in others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import Count
from django.db.models.functions import Now

from batching.engine.capacity import Capacity, add_capacities
from batching.engine.lanes import Priority
from batching.models import ALIVE_S, FORGOTTEN_S, Worker
from chats.models import Chat, Status

REPORT_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """`capacity` is None where no worker is known; `queued` counts every process's requests."""

    capacity: Capacity | None = None
    queued: Mapping[Priority, int] = field(default_factory=dict)


def read_fleet_status() -> FleetStatus:
    """As the database has it: every worker's last report, and the queue of record."""
    alive = Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=ALIVE_S))
    columns = ("slots", "reserve", "call_s", "paused_s", "down")
    rows = alive.values(*columns)
    capacities = [Capacity(**row | {"call_s": tuple(row["call_s"])}) for row in rows]
    waiting = Chat.objects.filter(status=Status.QUEUED).order_by()
    counted = waiting.values_list("priority").annotate(Count("pk"))
    return FleetStatus(add_capacities(capacities), {Priority(p): number for p, number in counted})


def report_worker(owner: str, capacity: Capacity) -> None:
    """One row per worker process; those of processes long gone are deleted on the way."""
    state = {name: getattr(capacity, name) for name in Capacity.__dataclass_fields__}
    state["call_s"] = list(capacity.call_s)
    Worker.objects.update_or_create(owner=owner, defaults=state | {"seen_at": Now()})
    Worker.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGOTTEN_S)).delete()


def forget_worker(owner: str) -> None:
    Worker.objects.filter(owner=owner).delete()
