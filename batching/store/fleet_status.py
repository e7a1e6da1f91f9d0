"""What the workers of a fleet can do, and how many requests wait for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models.functions import Now

from batching.engine.capacity import Capacity, add_capacities
from batching.engine.lanes import Priority
from batching.models import ALIVE_S, FORGOTTEN_S, Worker
from batching.store.tenants import count_queued

REPORT_INTERVAL_S = 1.0
_CAPACITY_COLUMNS = ("slots", "reserve", "call_s", "paused_s", "down")


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """`capacity` is None if no worker is known; `queued` counts the requests of all processes,
    `tenants` those of each tenant."""

    capacity: Capacity | None = None
    queued: Mapping[Priority, int] = field(default_factory=dict)
    tenants: Mapping[Priority, Mapping[str, int]] = field(default_factory=dict)


def read_fleet_status() -> FleetStatus:
    """Reads the last report of every worker that is alive, and counts the queued requests."""
    alive = Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=ALIVE_S))
    rows = alive.values(*_CAPACITY_COLUMNS)
    capacities = [Capacity(**row | {"call_s": tuple(row["call_s"])}) for row in rows]
    tenants = count_queued()
    queued = {lane: sum(numbers.values()) for lane, numbers in tenants.items()}
    return FleetStatus(add_capacities(capacities), queued, tenants)


def report_worker(owner: str, capacity: Capacity) -> None:
    """Writes the row of this worker and deletes the rows of workers that ended long ago."""
    state = {name: getattr(capacity, name) for name in _CAPACITY_COLUMNS}
    Worker.objects.update_or_create(owner=owner, defaults=state | {"seen_at": Now()})
    Worker.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGOTTEN_S)).delete()


def forget_worker(owner: str) -> None:
    Worker.objects.filter(owner=owner).delete()
