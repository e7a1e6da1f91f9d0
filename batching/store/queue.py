"""Reads the queue: the chats that wait for a batch."""

from collections import Counter
from collections.abc import Mapping, Sequence

from django.conf import settings
from django.db.models import Count, F, Q

from batching.engine.capacity import Capacity, reserve_for_high
from batching.engine.errors import AmbiguousRequest, RequestNotFound
from batching.engine.items import QueuedItem
from batching.engine.lanes import LaneRule, Priority, estimate_tokens
from batching.models import ModelCall
from batching.store.fleet_status import read_fleet_status
from batching.store.lane_rules import current_rules
from batching.store.tenants import TENANT_NAME, find_tenant
from chats.clock import CLOCK
from chats.models import Chat, Status
from settings_app.models import OPEN_ACCESS_CLIENT_ID


def list_queued_ids(*, limit: int = 50_000) -> list[int]:
    queued = Chat.objects.filter(status=Status.QUEUED).order_by("id")
    return list(queued.values_list("id", flat=True)[:limit])


def read_waiting(ids: Sequence[int], *, rules: Mapping[Priority, LaneRule]) -> list[QueuedItem]:
    """The chats of `ids` that are still queued, oldest first, with their times on the monotonic
    clock."""
    queued = Chat.objects.filter(pk__in=ids, status=Status.QUEUED).order_by("id")
    return [make_item(chat, rules[Priority(chat.priority)]) for chat in queued]


def make_item(chat: Chat, rule: LaneRule) -> QueuedItem:
    """The item of a queued chat, with its times on the monotonic clock."""
    accepted = CLOCK.to_monotonic(chat.received_at)
    client_id = chat.client_id or OPEN_ACCESS_CLIENT_ID  # the type stubs declare it nullable
    return QueuedItem(
        id=chat.pk,
        priority=rule.priority,
        accepted=accepted,
        due=accepted + (chat.due_at - chat.received_at).total_seconds(),
        deadline=accepted + (chat.deadline - chat.received_at).total_seconds(),
        target=accepted + rule.latency_s,
        input_tokens=estimate_tokens(chat.prompt),
        output_tokens=rule.tokens,
        client=client_id,
        username=chat.username,
        tenant=find_tenant(client_id, chat.username),
        request_id=chat.request_id,
        generation=chat.generation,
    )


def find_request(request_id: str, *, client_id: int | None, username: str | None) -> Chat:
    """The one chat with this request id, with its `batch_size`.

    Without `client_id` the chats of all clients count, without `username` those of all usernames.
    Raises RequestNotFound or AmbiguousRequest.
    """
    if "\x00" in request_id + (username or ""):
        raise RequestNotFound()  # no database stores this character
    limits = {"client": client_id, "username": username}
    limits = {name: value for name, value in limits.items() if value is not None}
    chats = Chat.objects.filter(request_id=request_id, **limits)
    found = list(chats.annotate(batch_size=F("batch__size")).order_by("-id")[:2])
    if not found:
        raise RequestNotFound()
    if len(found) > 1:
        raise AmbiguousRequest()
    return found[0]


def queue_position(chat: Chat) -> int:
    """The position in the lane's queue, in which tenants take turns; 1 leaves first."""
    queued = Chat.objects.filter(status=Status.QUEUED, priority=chat.priority).order_by()
    tenants = queued.values_list("client_id", TENANT_NAME)
    counted = tenants.annotate(number=Count("pk"), older=Count("pk", filter=Q(pk__lt=chat.pk)))
    counts: dict[str, tuple[int, int]] = {
        find_tenant(client_id, name): (number, older) for client_id, name, number, older in counted
    }
    own = find_tenant(chat.client_id or OPEN_ACCESS_CLIENT_ID, chat.username)
    _, before = counts.pop(own, (0, 0))
    # Of each other tenant as many go first, and one more if it arrived before this one.
    ahead = sum(min(n, before) + (older > before) for n, older in counts.values())
    return before + ahead + 1


def queue_positions(chat_ids: Sequence[int]) -> dict[int, int]:
    """The positions of those chats that are still queued, by id."""
    waiting = Chat.objects.filter(pk__in=chat_ids, status=Status.QUEUED).order_by()
    positions: dict[int, int] = {}
    for priority in waiting.values_list("priority", flat=True).distinct():
        queue = Chat.objects.filter(status=Status.QUEUED, priority=priority).order_by("pk")
        seen: Counter[str] = Counter()
        turns = []
        for pk, client_id, username in queue.values_list("pk", "client_id", "username"):
            tenant = find_tenant(client_id, username)
            turns.append((seen[tenant], pk))
            seen[tenant] += 1
        positions |= {pk: position for position, (_, pk) in enumerate(sorted(turns), 1)}
    return {pk: positions[pk] for pk in chat_ids if pk in positions}


def estimate_wait_s(chat: Chat) -> float:
    """The estimated number of seconds until the answer (see `Capacity.estimate_s`)."""
    rule = current_rules()[Priority(chat.priority)]
    window_s = max(0.0, (chat.due_at - CLOCK.now()).total_seconds())
    capacity = read_fleet_status().capacity if settings.REDIS_URL else None
    capacity = capacity or _estimate_capacity(rule)
    return round(capacity.estimate_s(queue_position(chat) - 1, rule, window_s=window_s), 3)


def _estimate_capacity(rule: LaneRule) -> Capacity:
    """The capacity of this process, from the durations of the newest calls."""
    recent = ModelCall.objects.order_by("-id").values_list("duration_ms", flat=True)
    durations = [ms for ms in recent.filter(duration_ms__isnull=False)[:20] if ms is not None]
    call_s = sum(durations) / len(durations) / 1000 if durations else rule.latency_s
    slots = settings.MODEL_CALL_SLOTS
    return Capacity(slots, reserve_for_high(slots), (call_s,) * len(Priority))
