"""How many requests wait in a lane: of this process and, as last read, of the whole fleet."""

from collections.abc import Callable, Mapping

from batching.engine.lanes import Priority
from batching.gateway.waiters import Waiters
from batching.store.fleet_status import FleetStatus


class QueueCounts:
    """The larger number counts: this process knows its own requests at once, the fleet's later."""

    def __init__(self, waiters: Waiters, fleet_status: Callable[[], FleetStatus]) -> None:
        self._waiters = waiters
        self._fleet_status = fleet_status

    def total(self, lane: Priority) -> int:
        queued = self._fleet_status().queued.get(lane, 0)
        return max(self._waiters.count_queued(lane), queued)

    def of_tenant(self, lane: Priority, tenant: str) -> int:
        queued = self._of_fleet(lane).get(tenant, 0)
        return max(self._waiters.queued_by_tenant(lane).get(tenant, 0), queued)

    def beyond(self, lane: Priority, limit: int, *, without: str) -> int:
        """How many requests of the other tenants are beyond `limit` for each tenant."""
        others = self._by_tenant(lane).items()
        return sum(max(0, number - limit) for tenant, number in others if tenant != without)

    def position(self, lane: Priority, tenant: str, number: int) -> int:
        """The position of the tenant's request with this number if it arrives now; tenants take
        turns."""
        others = self._by_tenant(lane).items()
        return number + sum(min(count, number) for name, count in others if name != tenant)

    def _of_fleet(self, lane: Priority) -> Mapping[str, int]:
        return self._fleet_status().tenants.get(lane, {})

    def _by_tenant(self, lane: Priority) -> dict[str, int]:
        counts = dict(self._of_fleet(lane))
        for tenant, number in self._waiters.queued_by_tenant(lane).items():
            counts[tenant] = max(number, counts.get(tenant, 0))
        return counts
