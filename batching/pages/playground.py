"""/playground: prompts sent by hand. The page asks over /ws/query, as any program can.

A browser opens at most six connections to a host: of twenty streams over HTTP most would wait in
the browser, and a cancel behind them. One socket carries them all.
"""

from typing import Any

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from batching.engine.lanes import GRACE_S
from batching.models import Batch
from chats.models import MAX_NAME_LENGTH, Chat
from settings_app.access.page_access import for_readers
from settings_app.lane_help import format_effect
from settings_app.models import Priority
from settings_app.snapshot import LaneSettings, refresh_if_stale

MAX_AT_ONCE = 20
EXAMPLE = "The number {n}: what is surprising about it? Two sentences, please."


@require_safe
@for_readers
def playground(request: HttpRequest) -> HttpResponse:
    lanes = refresh_if_stale().lanes
    context = {
        "lanes": [_describe_lane(lanes[priority]) for priority in sorted(Priority, reverse=True)],
        "username": request.user.get_username() or "demo",
        "example": EXAMPLE,
        "most": MAX_AT_ONCE,
        "most_letters": MAX_NAME_LENGTH,
        "needs_key": settings.API_ACCESS != "open",
    }
    return render(request, "playground.html", context)


@never_cache
@require_safe
@for_readers
def playground_batches(request: HttpRequest) -> HttpResponse:
    """Which batch each `?id=` left in, and what those batches took; two queries."""
    ids = [name for name in request.GET.getlist("id") if "\x00" not in name][:MAX_AT_ONCE]
    left = dict(
        Chat.objects.filter(request_id__in=ids, batch__isnull=False)
        .order_by("id")
        .values_list("request_id", "batch_id")
    )
    batches = Batch.objects.filter(pk__in=left.values()).annotate(made=Count("calls"))
    rows = batches.values_list("pk", "size", "made").order_by("pk")
    taken = {pk: {"size": size, "calls": made} for pk, size, made in rows}
    return JsonResponse({"requests": left, "batches": taken})


def _describe_lane(lane: LaneSettings) -> dict[str, Any]:
    effects = [format_effect(name, getattr(lane, name)) for name in ("window_s", "max_batch")]
    return {
        "name": Priority(lane.priority).name,
        "words": " ".join(effects),
        "patience_s": lane.latency_ms / 1000 + GRACE_S,
    }
