"""The composition root: builds the parts of one process, starts them and stops them."""

import asyncio
import contextvars
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from channels.layers import get_channel_layer
from django.conf import settings
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from batching.engine.capacity import Capacity
from batching.engine.errors import ShuttingDown
from batching.gateway.gateway import Gateway
from batching.live.relay import Relay
from batching.llm.access import ModelState, model_state, read_access
from batching.llm.lazy import LazyGeminiModel
from batching.messages import Sender
from batching.models import ALIVE_S
from batching.process.maintenance import Maintenance
from batching.process.supervisor import Supervisor
from batching.sockets.registry import SocketRegistry
from batching.store.fleet_status import FleetStatus
from batching.store.threads import DatabaseThreads
from batching.telemetry.metrics import watch_lag
from batching.worker.consumer import BatchConsumer
from settings_app.snapshot import refresh_if_stale, refresh_snapshot

if TYPE_CHECKING:
    from batching.live.feed import Feed

logger = logging.getLogger("batching")

HEARTBEAT_LIMIT_S = 3.0
NAME_LENGTH = 40

Tasks = dict[str, Callable[[], Coroutine[Any, Any, None]]]


class Runtime:
    """All parts of one process.

    A web process takes requests and has a `gateway`; a worker runs batches and has a `consumer`.
    One process may do both. In a fleet several processes share Postgres and Redis.
    """

    # Exists after `start` in a process that takes requests.
    gateway: Gateway
    # Exists after `start` in a process that runs batches.
    consumer: BatchConsumer

    def __init__(
        self,
        *,
        name: str = "",
        takes_requests: bool = True,
        runs_batches: bool = True,
    ) -> None:
        self.takes_requests = takes_requests
        self.runs_batches = runs_batches
        self.name = (name or f"{socket.gethostname()}:{settings.PORT}")[:NAME_LENGTH]
        self.process = f"waiters.{secrets.token_hex(8)}"
        self.shared = bool(settings.REDIS_URL)
        self.layer = get_channel_layer()
        self.sender = Sender(self.layer)
        self.model = _make_model(runs_batches=runs_batches)
        self.database = DatabaseThreads()
        self.supervisor = Supervisor()
        self.sockets = SocketRegistry()
        # The live feed; created when the first watcher connects.
        self.feed: Feed | None = None
        self._maintenance = Maintenance(self.database)
        self._hurried = False

    async def start(self) -> None:
        await self.database.run(refresh_snapshot)
        if self.takes_requests:
            self.gateway = Gateway(
                layer=self.layer,
                send=self.sender.send,
                database=self.database,
                process=self.process,
                fleet_status=self.fleet_status,
            )
        if self.runs_batches:
            self.consumer = BatchConsumer(
                layer=self.layer,
                send=self.sender.send,
                database=self.database,
                model=self.model,
                process=self.process,
                name=self.name,
                shared=self.shared,
                slots=settings.MODEL_CALL_SLOTS,
            )
        tasks = self._list_tasks()
        for name, body in tasks.items():
            self.supervisor.start(name, body)
        logger.info("The gateway runs as %s with the tasks %s.", self.process, ", ".join(tasks))

    def _list_tasks(self) -> Tasks:
        """The background tasks of this process, by the name that a failing one is reported by."""
        tasks: Tasks = {"loop lag": watch_lag}
        if self.takes_requests:
            tasks |= self._gateway_tasks()
        if self.runs_batches:
            tasks |= self._worker_tasks()
        if self.shared:
            relay = Relay(layer=self.layer, send=self.sender.send)
            tasks |= {"live watchers": relay.receive_watchers, "live relay": relay.run}
            tasks["metrics report"] = partial(
                self._maintenance.report_numbers, self.name, self.gauges
            )
        return tasks

    def _gateway_tasks(self) -> Tasks:
        tasks: Tasks = {
            "group commit": self.gateway.group_commit.run,
            "waiters": self.gateway.receive,
            "release": self.gateway.release,
            "reread": self.gateway.reread,
            "locate": self.gateway.locate,
            "key use": self._maintenance.write_last_used,
            "socket guard": self.sockets.guard,
        }
        return tasks | ({"fleet status": self._maintenance.watch_fleet} if self.shared else {})

    def _worker_tasks(self) -> Tasks:
        consumer = self.consumer
        tasks: Tasks = {
            "consumer": consumer.receive,
            "dispatcher": consumer.dispatcher.run,
            "sweep": consumer.sweep,
            "leases": consumer.leases.renew,
            "recovery": consumer.leases.recover,
            "claimer": consumer.claimer.run,
            "recorder": consumer.recorder.run,
            "delta relay": consumer.delta_relay.run,
            "roll-up": self._maintenance.roll_up,
            "retention": self._maintenance.delete_old_rows,
        }
        if self.shared:
            tasks["worker report"] = partial(
                self._maintenance.report_worker,
                consumer.owner,
                lambda: consumer.dispatcher.slots.capacity,
            )
        return tasks

    def fleet_status(self) -> FleetStatus:
        """The last reading of the whole fleet; in a process of its own the consumer's state."""
        if self.shared:
            return self._maintenance.fleet_status or FleetStatus()
        planner, slots = self.consumer.dispatcher.planner, self.consumer.dispatcher.slots
        return FleetStatus(slots.capacity, planner.depths)

    async def drain(self, *, seconds: float) -> None:
        """Refuses new requests and waits until the present ones are answered.

        After `seconds`, or after `hurry`, it refuses the clients that still wait.
        """
        self.gateway.draining = True
        self.sockets.start_drain()
        loop = asyncio.get_running_loop()
        limit = loop.time() + seconds
        while (  # noqa: ASYNC110 - it happens once
            len(self.gateway.waiters) and loop.time() < limit and not self._hurried
        ):
            await asyncio.sleep(0.02)
        self.gateway.waiters.refuse_all(ShuttingDown())
        await self.sockets.close()
        await asyncio.sleep(0.05)  # the refused requests' responses go out

    def hurry(self) -> None:
        """Ends `drain` at once."""
        self._hurried = True

    async def stop(self) -> None:
        """Puts running batches back into the queue and ends every task."""
        if self.takes_requests:
            self.gateway.draining = True
        if self.runs_batches:
            await self.consumer.stop()
        await self.supervisor.stop()
        if self.shared:
            owner = self.consumer.owner if self.runs_batches else None
            await self._maintenance.sign_off(name=self.name, owner=owner)
        await self.model.close()
        await self.database.close()

    def gauges(self) -> list[Metric]:
        """The gauges of this process for /metrics. Call it on the event loop."""
        found: list[Metric] = []

        def add(name: str, text: str, value: float) -> None:
            found.append(GaugeMetricFamily(f"llmbatch_{name}", text, value=value))

        if self.takes_requests:
            add("waiting_clients", "Clients that wait for an answer.", len(self.gateway.waiters))
        if self.runs_batches:
            slots = self.consumer.dispatcher.slots
            add("call_slots", "Model calls that may run at once.", slots.total)
            add("call_slots_used", "Model calls that run.", slots.running)
            text = "1 while the circuit breaker lets no model call start."
            add("breaker_open", text, slots.breaker.is_open)
            text = "Seconds until a model call may start again."
            add("breaker_pause_seconds", text, slots.capacity.paused_s)
        return found

    async def test_model_key(self) -> str:
        """Asks the model service; returns why the key or the model do not work, "" if they do."""
        snapshot = await self.database.run(refresh_if_stale)
        match model_state():
            case ModelState.SIMULATED:
                return "No key is set: answers are simulated."
            case ModelState.NO_API_KEY:
                return snapshot.key_problem or "No key is set."
        problem: str = await self.model.test_key(snapshot.model)
        return problem

    def describe_trouble(self) -> str:
        """Why this process is not ready to have batches run; "" if it is."""
        if self.supervisor.failures:
            return ", ".join(f"{k}: {v}" for k, v in self.supervisor.failures.items())
        if not self.runs_batches:
            status = self._maintenance.fleet_status
            alone = status is not None and status.capacity is None
            return f"no batch worker was seen for {ALIVE_S:.0f} s" if alone else ""
        silent_s = asyncio.get_running_loop().time() - self.consumer.dispatcher.alive_at
        return f"no heartbeat for {silent_s:.1f} s" if silent_s > HEARTBEAT_LIMIT_S else ""


def _make_model(*, runs_batches: bool) -> Any:
    if not runs_batches:
        return LazyGeminiModel(read_access)
    from batching.llm.gemini import GeminiModel  # imports the SDK, which takes half a second

    return GeminiModel(read_access)


class _CurrentRuntime:
    """The one runtime of this process, and what it is started with."""

    def __init__(self) -> None:
        self.name = ""
        self.runs_batches = True
        self.started: Runtime | None = None
        self.starting: asyncio.Task[Runtime] | None = None

    async def start(self) -> Runtime:
        runtime = Runtime(name=self.name, runs_batches=self.runs_batches)
        await runtime.start()
        self.started = runtime
        return runtime


_current = _CurrentRuntime()


def configure_runtime(*, name: str, runs_batches: bool) -> None:
    """Call it before the start. `name` stays the same over restarts of this process."""
    _current.name, _current.runs_batches = name, runs_batches


async def get_runtime() -> Runtime:
    """The runtime of this process. The first caller starts it; callers meanwhile wait."""
    if _current.started is not None:
        return _current.started
    if _current.starting is None:
        _current.starting = asyncio.create_task(
            _current.start(), name="start runtime", context=contextvars.Context()
        )
    try:
        return await asyncio.shield(_current.starting)
    except Exception:
        _current.starting = None  # the next caller tries again
        raise


def current_capacity() -> Capacity | None:
    """What the workers can do; None before the start or if no worker is known."""
    return _current.started.fleet_status().capacity if _current.started else None


def use_runtime(runtime: Runtime | None) -> None:
    """Replaces the runtime of this process, for tests."""
    _current.started, _current.starting = runtime, None
