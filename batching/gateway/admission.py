"""Checks whether a request can be answered in time, and makes the row and item of one that can."""

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from batching.engine.errors import NoApiKey, QueueFull, TooLarge, UpstreamUnavailable
from batching.engine.items import QueuedItem
from batching.engine.lanes import DEFAULT_BUDGET, LaneRule, Priority, estimate_tokens
from batching.gateway.queue_counts import QueueCounts
from batching.llm.access import ModelState, model_state
from batching.store.fleet_status import FleetStatus
from batching.store.lane_rules import current_rules, longest_wait_s
from batching.store.tenants import find_tenant
from batching.telemetry import log_context
from chats.clock import CLOCK
from chats.models import Chat
from settings_app.models import OPEN_ACCESS_CLIENT_ID


@dataclass(frozen=True, slots=True)
class Query:
    """A valid request as the client sent it. `timeout_s` can only shorten the wait."""

    username: str
    prompt: str
    priority: Priority = Priority.MEDIUM
    request_id: str | None = None
    created_at: datetime | None = None
    timeout_s: float | None = None
    client_id: int = OPEN_ACCESS_CLIENT_ID
    respond_async: bool = False
    streamed: bool = False


class Admission:
    """`counts` counts the queued requests; `fleet_status` says what the workers can do."""

    def __init__(
        self,
        *,
        process: str,
        counts: QueueCounts,
        fleet_status: Callable[[], FleetStatus],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._counts = counts
        self._fleet_status = fleet_status
        self._clock = clock

    def admit(self, query: Query) -> tuple[Chat, QueuedItem]:
        """Returns the unsaved row and its item, which has no id yet; raises GatewayError."""
        rule = current_rules()[query.priority]
        wait_s = longest_wait_s(rule, respond_async=query.respond_async)
        if query.timeout_s is not None:
            wait_s = min(wait_s, query.timeout_s)
        if model_state() is ModelState.NO_API_KEY:
            raise NoApiKey()
        if estimate_tokens(query.prompt) > DEFAULT_BUDGET.input:
            raise TooLarge()
        self._check_queue(query, rule, wait_s=wait_s)
        accepted, received_at = self._clock(), CLOCK.now()
        chat = self._make_chat(query, rule, received_at=received_at, wait_s=wait_s)
        log_context.bind(request_ids=[chat.request_id])
        item = self._make_item(query, rule, accepted=accepted, wait_s=wait_s)
        exchange = log_context.current_exchange()
        return chat, replace(item, request_id=chat.request_id, exchange=exchange)

    def _check_queue(self, query: Query, rule: LaneRule, *, wait_s: float) -> None:
        tenant = find_tenant(query.client_id, query.username)
        depth, capacity = self._counts.total(rule.priority), self._fleet_status().capacity
        self._check_room(rule, tenant, depth)
        if capacity is None:
            return
        if capacity.paused_s and (
            capacity.paused_s >= wait_s or (capacity.down and not query.respond_async)
        ):
            raise UpstreamUnavailable(
                "The model service has been failing; the gateway tries it again soon.",
                retry_after_s=math.ceil(capacity.paused_s),
            )
        # Behind less than a full batch no request is refused, even if the estimate is too long.
        if depth < rule.max_batch or capacity.estimate_s(depth, rule) <= wait_s:
            return
        own = self._counts.of_tenant(rule.priority, tenant)
        ahead = self._counts.position(rule.priority, tenant, own + 1) - 1
        estimate_s = capacity.estimate_s(ahead, rule)
        if ahead >= rule.max_batch and estimate_s > wait_s:
            raise QueueFull(
                f"{depth} requests of {rule.priority.name} priority are waiting; the answer would"
                f" take an estimated {estimate_s:.0f} s, longer than the {wait_s:g} s that this one"
                " may wait.",
                retry_after_s=max(1.0, math.ceil(estimate_s - wait_s)),
            )

    def _check_room(self, rule: LaneRule, tenant: str, depth: int) -> None:
        """Raises QueueFull if the lane is full, or if the tenant holds its share beside others.

        What others hold beyond their share does not count: one that filled the queue while it was
        alone must not keep the others out.
        """
        own = self._counts.of_tenant(rule.priority, tenant)
        if depth < rule.max_queue and own < rule.share:
            return
        if own >= rule.share and depth > own:
            raise QueueFull(
                f"{own} of your {rule.priority.name} requests are waiting. While others wait too,"
                f" one client may hold {rule.share} of {rule.max_queue} places.",
                retry_after_s=max(1.0, rule.window_s),
            )
        beyond = self._counts.beyond(rule.priority, rule.share, without=tenant)
        if depth - beyond >= rule.max_queue:
            raise QueueFull(
                f"{rule.max_queue} requests of {rule.priority.name} priority are waiting already.",
                retry_after_s=max(1.0, rule.window_s),
            )

    def _make_chat(
        self, query: Query, rule: LaneRule, *, received_at: datetime, wait_s: float
    ) -> Chat:
        return Chat(
            client_id=query.client_id,
            username=query.username,
            request_id=query.request_id or uuid.uuid4().hex,
            prompt=query.prompt,
            priority=int(query.priority),
            created_at=query.created_at or received_at,
            received_at=received_at,
            due_at=received_at + timedelta(seconds=rule.window_s),
            deadline=received_at + timedelta(seconds=wait_s),
            origin=self._process,
            streamed=query.streamed,
            respond_async=query.respond_async,
        )

    def _make_item(
        self, query: Query, rule: LaneRule, *, accepted: float, wait_s: float
    ) -> QueuedItem:
        return QueuedItem(
            id=0,
            priority=rule.priority,
            accepted=accepted,
            due=accepted + rule.window_s,
            deadline=accepted + wait_s,
            target=accepted + rule.latency_s,
            input_tokens=estimate_tokens(query.prompt),
            output_tokens=rule.tokens,
            client=query.client_id,
            username=query.username,
            tenant=find_tenant(query.client_id, query.username),
        )
