"""Puts the parts of one process together, starts them in its event loop, and stops them."""

import asyncio
import contextvars
import logging
import secrets
import socket
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import DatabaseError
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from batching.analytics.rollup import CHUNK, roll_up_pending
from batching.engine.capacity import Capacity
from batching.engine.errors import ShuttingDown
from batching.gateway.gateway import Gateway
from batching.live.relay import Relay
from batching.llm.access import ModelState, model_state, read_access
from batching.llm.lazy import LazyGeminiModel
from batching.messages import Sender
from batching.models import ALIVE_S
from batching.process.supervisor import Supervisor
from batching.sockets.registry import SocketRegistry
from batching.store.fleet_status import (
    REPORT_INTERVAL_S,
    FleetStatus,
    forget_worker,
    read_fleet_status,
    report_worker,
)
from batching.store.retention import prune_old
from batching.store.threads import DatabaseThreads
from batching.telemetry.exposition import forget_numbers, report_numbers
from batching.telemetry.metrics import watch_lag
from batching.worker.consumer import BatchConsumer
from settings_app.access.api_keys import KEY_RING
from settings_app.snapshot import refresh_if_stale, refresh_snapshot

if TYPE_CHECKING:
    from batching.live.feed import Feed

logger = logging.getLogger("batching")

HEARTBEAT_LIMIT_S = 3.0
FOLD_INTERVAL_S = 0.5
LAST_USED_INTERVAL_S = 10.0
NUMBERS_INTERVAL_S = 2.0
WATCH_INTERVAL_S = 0.5
RETENTION_DELAY_S = 60.0
RETENTION_INTERVAL_S = 3600.0
RETENTION_PAUSE_S = 0.1
NAME_LENGTH = 40


class Runtime:
    """`gateway` takes requests in, `consumer` runs batches; a fleet has processes for each."""

    def __init__(
        self,
        *,
        name: str = "",
        takes_requests: bool = True,
        runs_batches: bool = True,
        layer: Any = None,
        model: Any = None,
    ) -> None:
        self.takes_requests = takes_requests
        self.runs_batches = runs_batches
        self.name = (name or f"{socket.gethostname()}:{settings.PORT}")[:NAME_LENGTH]
        self.process = f"waiters.{secrets.token_hex(8)}"
        self.shared = bool(settings.REDIS_URL)
        self._hurried = False
        self.fleet: FleetStatus | None = None
        """of the whole fleet, as it was read last"""
        self.layer = layer or get_channel_layer()
        self.sender = Sender(self.layer)
        self.model = model or _make_model(runs_batches=runs_batches)
        self.database = DatabaseThreads()
        self.supervisor = Supervisor()
        self.sockets = SocketRegistry()
        self.feed: Feed | None = None
        """what is shown to those who watch; there is none before the first of them"""
        self.gateway: Gateway
        self.consumer: BatchConsumer

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
        for name, body in self._bodies().items():
            self.supervisor.start(name, body)
        logger.info("The gateway runs as %s (%s).", self.process, ", ".join(self._bodies()))

    def _bodies(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"lag": watch_lag}
        if self.takes_requests:
            tasks |= self._gateway_tasks()
        if self.runs_batches:
            tasks |= self._worker_tasks()
        if self.shared:
            relay = Relay(layer=self.layer, send=self.sender.send)
            tasks |= {"watched": relay.receive_watchers, "relay": relay.run}
            tasks["numbers"] = self._report_numbers
        return tasks

    def _gateway_tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        tasks = {
            "group_commit": self.gateway.group_commit.run,
            "waiters": self.gateway.receive,
            "release": self.gateway.release,
            "reread": self.gateway.reread,
            "locate": self.gateway.locate,
            "keys": self._note_keys,
            "guard": self.sockets.guard,
        }
        return tasks | ({"watch": self._watch} if self.shared else {})

    def _worker_tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        tasks = {
            "receive": self.consumer.receive,
            "dispatch": self.consumer.dispatcher.run,
            "sweep": self.consumer.sweep,
            "renew": self.consumer.leases.renew,
            "recover": self.consumer.leases.recover,
            "claims": self.consumer.claimer.run,
            "fold": self._fold,
            "recorder": self.consumer.recorder.run,
            "delta_relay": self.consumer.delta_relay.run,
            "retention": self._retain,
        }
        return tasks | ({"report": self._report} if self.shared else {})

    def fleet_status(self) -> FleetStatus:
        """In a fleet what was read last; alone, what the consumer of this process knows."""
        if self.shared:
            return self.fleet or FleetStatus()
        planner, slots = self.consumer.dispatcher.planner, self.consumer.dispatcher.slots
        return FleetStatus(slots.capacity, planner.depths)

    async def _watch(self) -> None:
        """Settings, workers and queue as other processes left them, at most a second old."""
        while True:
            await self.database.run(refresh_if_stale)
            self.fleet = await self.database.run(read_fleet_status)
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _note_keys(self) -> None:
        """Stores when each API key was used last."""
        while True:
            await asyncio.sleep(LAST_USED_INTERVAL_S)
            await self.database.run(KEY_RING.write_last_used)

    async def _report(self) -> None:
        """Tells the doors of the fleet that this worker is there, and what it can do."""
        while True:
            capacity = self.consumer.dispatcher.slots.capacity
            await self.database.run(report_worker, self.consumer.owner, capacity)
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def _report_numbers(self) -> None:
        """Leaves what /metrics shows of this process where every door can read it."""
        while True:
            await self.database.run(report_numbers, self.name, self.gauges())
            await asyncio.sleep(NUMBERS_INTERVAL_S)

    async def _sign_off(self) -> None:
        """Nobody counts on this process any more."""
        try:
            async with asyncio.timeout(REPORT_INTERVAL_S):
                await self.database.run(forget_numbers, self.name)
                if self.runs_batches:
                    await self.database.run(forget_worker, self.consumer.owner)
        except (TimeoutError, DatabaseError) as error:
            logger.warning("This process could not sign off (%s).", type(error).__name__)

    async def _fold(self) -> None:
        """Keeps the roll-up at most a second behind what has ended."""
        while True:
            await asyncio.sleep(FOLD_INTERVAL_S)
            while await self.database.run(roll_up_pending) >= CHUNK:
                pass  # chunk by chunk, so that requests get in between

    async def _retain(self) -> None:
        """Deletes what has become older than the setting allows, in chunks with pauses between."""
        await asyncio.sleep(RETENTION_DELAY_S)  # a start has more urgent things to do
        while True:
            removed = 0
            while rows := await self.database.run(prune_old, now=datetime.now(UTC)):
                removed += rows
                await asyncio.sleep(RETENTION_PAUSE_S)
            if removed:
                logger.info("The retention took %s rows.", removed, extra={"action": "retention"})
            await asyncio.sleep(RETENTION_INTERVAL_S)

    async def drain(self, *, seconds: float) -> None:
        """Takes nothing new, and gives what is here this long to be answered; `hurry` ends it."""
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
        """Whoever still waits is refused, and what runs goes back into the queue at once."""
        self._hurried = True

    async def stop(self) -> None:
        """Puts back what still runs, and ends every task."""
        if self.takes_requests:
            self.gateway.draining = True
        if self.runs_batches:
            await self.consumer.stop()
        await self.supervisor.stop()
        if self.shared:
            await self._sign_off()
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
            text = "How long no model call starts."
            add("breaker_pause_seconds", text, slots.capacity.paused_s)
        return found

    async def test_model_key(self) -> str:
        """Asks the model service; "" if key and model work, else the reason why they do not."""
        snapshot = await self.database.run(refresh_if_stale)
        match model_state():
            case ModelState.SIMULATED:
                return "No key is set: answers are simulated."
            case ModelState.NO_API_KEY:
                return snapshot.key_problem or "No key is set."
        return await self.model.test_key(snapshot.model)

    def describe_trouble(self) -> str:
        """Why the batch consumer is not in order; "" if it is."""
        if self.supervisor.failures:
            return ", ".join(f"{k}: {v}" for k, v in self.supervisor.failures.items())
        if not self.runs_batches:
            alone = self.fleet is not None and self.fleet.capacity is None
            return f"no batch worker was seen for {ALIVE_S:.0f} s" if alone else ""
        silent_s = asyncio.get_running_loop().time() - self.consumer.dispatcher.alive_at
        if silent_s > HEARTBEAT_LIMIT_S:
            return f"no heartbeat for {silent_s:.1f} s"
        return ""


def _make_model(*, runs_batches: bool) -> Any:
    if not runs_batches:
        return LazyGeminiModel(read_access)
    from batching.llm.gemini import GeminiModel  # loads the SDK

    return GeminiModel(read_access)


class _Holder:
    """The process's one runtime, begun at most once whoever asks first."""

    runs_batches = True
    name = ""
    runtime: Runtime | None = None
    starting: asyncio.Task[Runtime] | None = None


async def get_runtime() -> Runtime:
    if _Holder.runtime is not None:
        return _Holder.runtime
    if _Holder.starting is None:
        _Holder.starting = asyncio.create_task(
            _start(), name="start runtime", context=contextvars.Context()
        )
    try:
        return await asyncio.shield(_Holder.starting)
    except Exception:
        _Holder.starting = None  # the next one who asks tries again
        raise


async def _start() -> Runtime:
    runtime = Runtime(name=_Holder.name, runs_batches=_Holder.runs_batches)
    await runtime.start()
    _Holder.runtime = runtime
    return runtime


def find_capacity() -> Capacity | None:
    """What this process knows of the machine; None before its start, or of no worker."""
    return _Holder.runtime.fleet_status().capacity if _Holder.runtime else None


def name_runtime(name: str) -> None:
    """Before the start: what this process is called over its restarts."""
    _Holder.name = name


def leave_batches_to_workers() -> None:
    """Before the start: this process takes requests in, and others run their batches."""
    _Holder.runs_batches = False


def use_runtime(runtime: Runtime | None) -> None:
    """Replaces the process's runtime, for tests."""
    _Holder.runtime = runtime
    _Holder.starting = None
