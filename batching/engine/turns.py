"""The turns that the tenants of a lane take: clients or, under open access, usernames."""


class Turns:
    """Whose request of a lane is next: start-time fair queueing, in which each request costs one.

    A tenant's turn rises by one with each of its requests that leaves. A tenant whose first request
    arrives starts at the turn that is served now, so it waits behind one request of each other
    tenant, not behind all of them. If it was served in this turn already, it starts at the next
    one: else tenants with one request at a time would always go before one with several. A turn
    ends when as many tenants were served in it as wait. `waiting` counts the waiting requests by
    tenant.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._now = 0
        self._served: set[str] = set()  # in the turn `_now`

    def __getitem__(self, tenant: str) -> int:
        return self._turns[tenant]

    def add(self, tenant: str) -> None:
        if tenant not in self.waiting:
            self.waiting[tenant] = 0
            self._turns[tenant] = self._now + (tenant in self._served)
        self.waiting[tenant] += 1

    def serve(self, tenant: str) -> None:
        """Counts a request that leaves. Call `remove` after it."""
        self._begin(self._turns[tenant])
        self._turns[tenant] += 1
        self._served.add(tenant)
        if len(self._served) >= len(self.waiting):
            self._begin(self._now + 1)

    def remove(self, tenant: str) -> None:
        self.waiting[tenant] -= 1
        if not self.waiting[tenant]:
            del self.waiting[tenant], self._turns[tenant]

    def _begin(self, turn: int) -> None:
        if turn > self._now:
            self._now = turn
            self._served.clear()
