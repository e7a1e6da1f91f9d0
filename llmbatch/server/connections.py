"""Bounds the open connections of this process, so that there is room for the next client."""

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

from batching.telemetry.metrics import CLOSED_CONNECTIONS
from settings_app.access.login_throttle import group_address

logger = logging.getLogger("batching")

# Files that are no connections of clients: the database, Redis, the model service, logs.
OTHER_FILES = 256
MAX_CONNECTIONS = 20_000
MIN_CONNECTIONS = 64
# Connections beyond the bound, for health checks and metrics. Other requests on them get 503.
RESERVE = 32
# A request must be received this long after the connection was opened or was last used.
RECEIVE_S = 120.0
LOG_INTERVAL_S = 60.0
# Addresses of this machine, besides 127.0.0.0/8.
LOCAL = group_address("::1")


def raise_file_limit() -> None:
    """Lets the process open as many files as the system permits, usually more than 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    except (OSError, ValueError):
        logger.warning("The limit of %d open files could not be raised.", soft)


def choose_total() -> int:
    """Returns how many connections the file limit leaves room for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(MIN_CONNECTIONS, min(files - OTHER_FILES, MAX_CONNECTIONS))


class Connection:
    """One open connection. `in_reserve`: it serves only health checks and metrics."""

    __slots__ = ("address", "close", "in_reserve")

    def __init__(self, address: str, *, in_reserve: bool) -> None:
        self.address = address
        self.in_reserve = in_reserve
        self.close: Callable[[], None] = lambda: None


class Connections:
    """A connection is idle until it has sent a whole request, and again after the response."""

    def __init__(
        self,
        *,
        total: int,
        per_address: int,
        exempt_all: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._per_address = min(per_address, total // 2)
        self._exempt_all = exempt_all
        self._clock = clock
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        # Since when each idle connection is idle, the longest first.
        self._idle: dict[Connection, float] = {}
        self._unlogged = 0
        self._log_at = clock()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, peer: str) -> Connection | None:
        """Registers a new connection; None means that it must be closed at once."""
        address = self._count_as(peer)
        if address and self._by_address[address] >= self._per_address:
            self._report("address", peer)
            return None
        if len(self._open) >= self._total and self._idle:
            self._close(next(iter(self._idle)), "idle")
        if len(self._open) >= self._total + RESERVE:
            self._report("total", peer)
            return None
        connection = Connection(address, in_reserve=len(self._open) >= self._total)
        self._open.add(connection)
        self._by_address[address] += 1
        self._idle[connection] = self._clock()
        return connection

    def _count_as(self, peer: str) -> str:
        """Returns "" for a peer that may open any number: this machine, and a trusted proxy."""
        address = group_address(peer)
        is_local = not address or address == LOCAL or ip_address(address).is_loopback
        return "" if is_local or self._exempt_all else address

    def begin_request(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def end_request(self, connection: Connection) -> None:
        if connection in self._open:
            self._idle[connection] = self._clock()

    def remove(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._idle.pop(connection, None)
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def close_slow(self) -> None:
        """Closes connections that send no request, or send one too slowly."""
        before = self._clock() - RECEIVE_S
        for connection in [each for each, since in self._idle.items() if since <= before]:
            self._close(connection, "slow")

    def _close(self, connection: Connection, reason: str) -> None:
        self.remove(connection)
        connection.close()
        self._report(reason, connection.address or "this machine or a proxy")

    def _report(self, reason: str, peer: str) -> None:
        """Counts each closed connection, and logs at most one line a minute."""
        CLOSED_CONNECTIONS.labels(reason).inc()
        self._unlogged += 1
        now = self._clock()
        if now < self._log_at:
            return
        logger.warning(
            "%d connections were closed or refused; the last one was of %s (%s). Of %d possible"
            " connections %d are open, of one address at most %d.",
            *(self._unlogged, peer, reason, self._total, len(self._open), self._per_address),
            extra={"action": "connections_closed"},
        )
        self._unlogged, self._log_at = 0, now + LOG_INTERVAL_S
