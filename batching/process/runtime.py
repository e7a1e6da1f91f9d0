"""The composition root: builds the parts of one process, starts them and stops them."""

import asyncio
import contextvars
import logging
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from batching.engine.capacity import Capacity
from batching.engine.errors import ShuttingDown
from batching.gateway.gateway import Gateway
from batching.live.feed import Feed
from batching.live.relay import Relay
from batching.llm.access import ModelState, model_state, read_access
from batching.llm.lazy import LazyGeminiModel
from batching.messages import Subscription, send_message
from batching.models import ALIVE_S
from batching.process import maintenance
from batching.process.maintenance import every
from batching.process.supervisor import Supervisor, TaskBody
from batching.sockets.registry import SocketRegistry
from batching.store.fleet_status import (
    REPORT_INTERVAL_S,
    FleetStatus,
    read_fleet_status,
    report_worker,
)
from batching.store.threads import DatabaseThreads
from batching.telemetry.exposition import report_numbers
from batching.telemetry.metrics import watch_lag
from batching.worker.consumer import BatchConsumer
from chats.clock import CLOCK, SAMPLE_INTERVAL_S
from settings_app.access.api_keys import KEY_CACHE
from settings_app.snapshot import refresh_if_stale, refresh_snapshot

logger = logging.getLogger("batching")

HEARTBEAT_LIMIT_S = 3.0
NAME_LENGTH = 40

Tasks = dict[str, TaskBody]


class Runtime:
    """All parts of one process.

    A web process takes requests and has a `gateway`; a worker runs batches and has a `consumer`.
    One process may do both. In a fleet several processes share Postgres and Redis.
    """

    # These two exist after `start`.
    gateway: Gateway
    consumer: BatchConsumer

    def __init__(
        self, *, name: str = "", takes_requests: bool = True, runs_batches: bool = True
    ) -> None:
        self.takes_requests = takes_requests
        self.runs_batches = runs_batches
        self.name = (name or f"{socket.gethostname()}:{settings.PORT}")[:NAME_LENGTH]
        self.process = f"inbox.{secrets.token_hex(8)}"
        self.shared = bool(settings.REDIS_URL)
        self.layer = get_channel_layer()
        self.send = partial(send_message, self.layer)
        self.model = _make_model(runs_batches=runs_batches)
        self.database = DatabaseThreads()
        self.supervisor = Supervisor()
        self.sockets = SocketRegistry()
        # The channels over which requests and answers travel to this process.
        self.subscriptions: list[Subscription] = []
        # The live feed; created when the first watcher connects.
        self.feed: Feed | None = None
        # The status of the whole fleet as it was last read; None before it was read.
        self._fleet_status: FleetStatus | None = None
        self._hurried = False

    async def start(self) -> None:
        await self.database.run(refresh_snapshot)
        await self.database.run(CLOCK.sample)
        if self.takes_requests:
            self.gateway = Gateway(
                layer=self.layer,
                send=self.send,
                database=self.database,
                process=self.process,
                fleet_status=self.fleet_status,
            )
            self.subscriptions.append(self.gateway.subscription)
        if self.runs_batches:
            await self.model.prepare()
            self.consumer = BatchConsumer(
                layer=self.layer,
                send=self.send,
                database=self.database,
                model=self.model,
                process=self.process,
                name=self.name,
            )
            self.subscriptions.append(self.consumer.subscription)
        tasks = self._list_tasks()
        for name, body in tasks.items():
            self.supervisor.start(name, body)
        logger.info("The gateway runs as %s with the tasks %s.", self.process, ", ".join(tasks))

    def _list_tasks(self) -> Tasks:
        """The background tasks of this process, by the names under which failures are reported."""
        tasks: Tasks = {
            "loop lag": watch_lag,
            "clock": every(SAMPLE_INTERVAL_S, self.database.run, CLOCK.sample),
        }
        if self.takes_requests:
            tasks |= self._gateway_tasks()
        if self.runs_batches:
            tasks |= self._worker_tasks()
        if self.shared:
            relay = Relay(layer=self.layer, send=self.send)
            tasks |= {"live watchers": relay.receive_watchers, "live relay": relay.run}
            tasks["live subscription"] = relay.subscription.watch
            tasks["metrics report"] = every(maintenance.NUMBERS_INTERVAL_S, self._report_numbers)
        return tasks

    def _gateway_tasks(self) -> Tasks:
        tasks: Tasks = {
            "group commit": self.gateway.group_commit.run,
            "withdraw": self.gateway.group_commit.withdraw,
            "waiters": self.gateway.receive,
            "release": self.gateway.release,
            "reread": self.gateway.reread,
            "locate": self.gateway.locate,
            "key use": every(
                maintenance.LAST_USED_INTERVAL_S, self.database.run, KEY_CACHE.write_last_used
            ),
            "socket guard": self.sockets.guard,
        }
        if self.shared:
            tasks["fleet status"] = every(maintenance.WATCH_INTERVAL_S, self._watch_fleet)
            tasks["waiters subscription"] = self.gateway.subscription.watch
        return tasks

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
            "roll-up": every(maintenance.ROLL_UP_INTERVAL_S, maintenance.roll_up, self.database),
            "retention": partial(maintenance.delete_old_rows, self.database),
        }
        if self.shared:
            tasks["worker report"] = every(REPORT_INTERVAL_S, self._report_worker)
            tasks["consumer subscription"] = consumer.subscription.watch
        return tasks

    async def _report_numbers(self) -> None:
        """Stores this process's metrics, so that every web process can include them in /metrics."""
        await self.database.run(report_numbers, self.name, self.gauges())

    async def _report_worker(self) -> None:
        """Reports to the web processes that this worker is alive, and its capacity."""
        capacity = self.consumer.dispatcher.slots.capacity
        await self.database.run(report_worker, self.consumer.owner, capacity)

    async def _watch_fleet(self) -> None:
        """Reads the settings, the workers and the queue that other processes changed."""
        await self.database.run(refresh_if_stale)
        self._fleet_status = await self.database.run(read_fleet_status)

    def fleet_status(self) -> FleetStatus:
        """The last known status of the fleet; in solo, the state of this process's consumer."""
        if self.shared:
            return self._fleet_status or FleetStatus()
        planner, slots = self.consumer.dispatcher.planner, self.consumer.dispatcher.slots
        tenants = {lane: turns.waiting for lane, turns in planner.turns.items()}
        return FleetStatus(slots.capacity, planner.depths, tenants)

    async def drain(self, *, seconds: float) -> None:
        """Refuses new requests and waits until the accepted ones are answered.

        After `seconds`, or after `hurry`, it sends the clients that still wait an error.
        """
        self.gateway.draining = True
        self.sockets.start_drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.gateway.waiters and not self._hurried:  # noqa: ASYNC110 - it happens once
                    await asyncio.sleep(0.02)
        self.gateway.waiters.refuse_all(ShuttingDown())
        await self.sockets.close()
        await asyncio.sleep(0.05)  # until the error responses are sent

    def hurry(self) -> None:
        """Ends `drain` at once."""
        self._hurried = True

    async def stop(self) -> None:
        """Returns the requests of running batches to the queue, and ends every task."""
        if self.takes_requests:
            self.gateway.draining = True
        if self.runs_batches:
            await self.consumer.stop()
        await self.supervisor.stop()
        if self.shared:
            owner = self.consumer.owner if self.runs_batches else None
            await maintenance.sign_off(self.database, name=self.name, owner=owner)
        await self.model.close()
        await self.database.close()

    def gauges(self) -> list[Metric]:
        """The gauges of this process for /metrics. Call it on the event loop."""
        ahead = "Seconds by which the wall clock is ahead of the database's clock."
        rows: list[tuple[str, str, float]] = [("clock_skew_seconds", ahead, CLOCK.skew_s)]
        if self.takes_requests:
            waiting = len(self.gateway.waiters)
            rows.append(("waiting_clients", "Clients that wait for an answer.", waiting))
        if self.runs_batches:
            slots = self.consumer.dispatcher.slots
            is_open, pause_s = slots.breaker.is_open, slots.capacity.paused_s
            rows += [
                ("call_slots", "Model calls that may run at once.", slots.total),
                ("call_slots_used", "Model calls that run.", slots.running),
                ("breaker_open", "1 while the circuit breaker lets no model call start.", is_open),
                ("breaker_pause_seconds", "Seconds until a model call may start again.", pause_s),
            ]
        return [GaugeMetricFamily(f"llmbatch_{name}", text, value=v) for name, text, v in rows]

    async def test_model_key(self) -> str:
        """Asks the model service; returns why the key or the model do not work, "" if they do."""
        snapshot = await self.database.run(refresh_if_stale)
        match model_state():
            case ModelState.SIMULATED:
                return "No key is set: answers are simulated."
            case ModelState.NO_API_KEY:
                return snapshot.key_problem or "No key is set."
        return str(await self.model.test_key(snapshot.model))

    def describe_trouble(self) -> str:
        """Why the requests of this process would not be batched; "" if they would."""
        if self.supervisor.failures:
            return ", ".join(f"{k}: {v}" for k, v in self.supervisor.failures.items())
        if not self.runs_batches:
            alone = self._fleet_status is not None and self._fleet_status.capacity is None
            return f"no batch worker was seen for {ALIVE_S:.0f} s" if alone else ""
        silent_s = asyncio.get_running_loop().time() - self.consumer.dispatcher.alive_at
        return f"no heartbeat for {silent_s:.1f} s" if silent_s > HEARTBEAT_LIMIT_S else ""


def _make_model(*, runs_batches: bool) -> Any:
    if not runs_batches:
        return LazyGeminiModel(read_access)
    from batching.llm.gemini import GeminiModel  # imports the SDK, which takes half a second

    return GeminiModel(read_access)


@dataclass
class _CurrentRuntime:
    """The one runtime of this process, and the arguments of its start."""

    name: str = ""
    runs_batches: bool = True
    started: Runtime | None = None
    starting: asyncio.Task[Runtime] | None = None

    async def start(self) -> Runtime:
        runtime = Runtime(name=self.name, runs_batches=self.runs_batches)
        await runtime.start()
        self.started = runtime
        return runtime


_current = _CurrentRuntime()


def configure_runtime(*, name: str, runs_batches: bool) -> None:
    """Call this before the start. `name` must be the same after a restart of the process."""
    _current.name, _current.runs_batches = name, runs_batches


async def get_runtime() -> Runtime:
    """The runtime of this process. The first caller starts it, and all wait for the start."""
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
    """The capacity of the workers; None before the start or if no worker is known."""
    return _current.started.fleet_status().capacity if _current.started else None


def use_runtime(runtime: Runtime | None) -> None:
    """Replaces the runtime of this process, for tests."""
    _current.started, _current.starting = runtime, None
