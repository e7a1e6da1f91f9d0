"""The HTML pages, and the button that tests the model key."""

from datetime import date
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from rest_framework import serializers

from batching.analytics.summary import summarize, summarize_now
from batching.engine.lanes import GRACE_S
from batching.models import Batch, Outcome
from batching.pages.batch_detail import describe_batch
from batching.pages.batch_list import BatchPage, list_batches
from batching.pages.charts import draw_charts
from batching.pages.figures import compare_lanes, describe_savings, list_figures, list_savings
from batching.pages.links import RowLinks
from batching.pages.periods import DAY_CHOICES, Period, PeriodForm
from batching.process.runtime import get_runtime
from chats.clock import CLOCK
from chats.id_ranges import MAX_ID
from chats.models import MAX_NAME_LENGTH, Chat
from chats.page_forms import format_for_field, format_query
from chats.serializers import QueryParameters, TimestampParameter
from settings_app.access.page_access import for_readers, may_administer
from settings_app.fields import PriorityField
from settings_app.lane_help import format_effect
from settings_app.models import Priority
from settings_app.snapshot import LaneSettings, refresh_if_stale

# Requests that the playground sends at once.
MAX_AT_ONCE = 20
EXAMPLE = "The number {n}: what is surprising about it? Two sentences, please."


def today_utc() -> date:
    return CLOCK.now().date()


def describe_period(
    period: Period, request: HttpRequest, *, compared: bool = False
) -> dict[str, Any]:
    """The context of the templates that show a period's figures and charts."""
    summary = summarize_now(first=period.first, last=period.last)
    before = period.before if compared else None
    earlier = summarize(first=before.first, last=before.last) if before else None
    links = RowLinks.for_viewer(period, request)
    lanes = refresh_if_stale().lanes
    return {
        "period": period,
        "before": before,
        "empty": not (summary["requests"] or summary["batches"]),
        "figures": list_figures(summary, before=earlier, links=links),
        "charts": draw_charts(summary, lanes=lanes, links=links),
        "lane_rows": compare_lanes(summary, before=earlier, links=links),
        "lane_labels": [priority.label for priority in Priority],
        "lane_targets": [(lanes[lane].latency_ms, links.find_lane(lane)) for lane in Priority],
        "savings": describe_savings(summary),
        "savings_rows": list_savings(summary, links=links),
    }


@require_safe
@for_readers
def dashboard(request: HttpRequest) -> HttpResponse:
    form = PeriodForm(request.GET)
    period = form.parse_period(today=today_utc())
    context = describe_period(period, request, compared=True)
    context |= {
        "unfinished": period.first <= today_utc() <= period.last,
        "form": form,
        "choices": DAY_CHOICES,
    }
    status = 200 if form.is_valid() else 400
    return render(request, "dashboard.html", context, status=status)


@require_safe
@for_readers
def live(request: HttpRequest) -> HttpResponse:
    """The browser draws the page from the frames of /ws/live."""
    lanes = [priority.name for priority in sorted(Priority, reverse=True)]
    return render(request, "live.html", {"lanes": lanes})


@require_POST
async def test_key(request: HttpRequest) -> HttpResponse:
    """The button of the settings page. It does the same as POST /v1/settings/test-key."""
    user = await request.auser()
    if not (user.is_staff and await user.ahas_perm("settings_app.change_gatewaysettings")):
        raise PermissionDenied
    trouble = await (await get_runtime()).test_model_key()
    if trouble:
        messages.error(request, f"The key test failed: {trouble}")
    else:
        messages.success(request, "The model service accepts the key and knows the model.")
    return redirect("admin:settings_app_gatewaysettings_change", 1)


# The conditions on batches, by their parameters.
LOOKUPS = {
    "priority": "priority",
    "outcome": "outcome",
    "from": "created_at__gte",
    "to": "created_at__lt",
}


class BatchParameters(QueryParameters):
    priority = PriorityField(required=False)
    outcome = serializers.ChoiceField(Outcome.choices, required=False)
    to = TimestampParameter(required=False)
    before = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": TimestampParameter(required=False)}

    @property
    def conditions(self) -> dict[str, Any]:
        """The lookups of the batches that match."""
        data = self.validated_data
        return {lookup: data[name] for name, lookup in LOOKUPS.items() if name in data}

    @property
    def form(self) -> dict[str, Any]:
        """The values and choices of the filter form."""
        data = {} if self.errors else self.validated_data
        return {
            "priorities": [(p.name, p.label, data.get("priority") == p) for p in Priority],
            "outcomes": [(o.value, o.label, data.get("outcome") == o.value) for o in Outcome],
            "from": format_for_field(data.get("from")),
            "to": format_for_field(data.get("to")),
        }


@require_safe
@for_readers
def batch_list(request: HttpRequest) -> HttpResponse:
    parameters = BatchParameters(data=request.GET)
    if parameters.is_valid():
        before = parameters.validated_data.get("before", MAX_ID)
        page = list_batches(parameters.conditions, before=before)
    else:
        page = BatchPage([], 0, None)
    context = {
        "page": page,
        "problems": parameters.problems,
        "form": parameters.form,
        "asked": format_query(request.GET, parameters, without=["before"]),
        "newest": "before" not in request.GET,
    }
    return render(request, "batches.html", context, status=400 if parameters.errors else 200)


@require_safe
@for_readers
def batch_page(request: HttpRequest, batch_id: int) -> HttpResponse:
    batch = get_object_or_404(Batch, pk=min(batch_id, MAX_ID))
    detail = describe_batch(batch, now=CLOCK.now())
    context = {"batch": batch, "detail": detail, "is_staff": may_administer(request)}
    return render(request, "batch.html", context)


@require_safe
@for_readers
def playground(request: HttpRequest) -> HttpResponse:
    """The page sends prompts over /ws/query, as any program can.

    A browser opens at most six connections to a host, so that most of twenty HTTP streams, and
    the cancels after them, would wait in the browser. One socket carries them all.
    """
    lanes = refresh_if_stale().lanes
    context = {
        "lanes": [_describe_lane(lanes[priority]) for priority in sorted(Priority, reverse=True)],
        "username": request.user.get_username() or "demo",
        "example": EXAMPLE,
        "max_requests": MAX_AT_ONCE,
        "max_name_length": MAX_NAME_LENGTH,
        "needs_key": settings.API_ACCESS != "open",
    }
    return render(request, "playground.html", context)


@never_cache
@require_safe
@for_readers
def playground_batches(request: HttpRequest) -> HttpResponse:
    """Returns the batch of each request `?id=`, and the size and calls of each such batch."""
    ids = [name for name in request.GET.getlist("id") if "\x00" not in name][:MAX_AT_ONCE]
    batch_ids = dict(
        Chat.objects.filter(request_id__in=ids, batch__isnull=False)
        .order_by("id")
        .values_list("request_id", "batch_id")
    )
    batches = Batch.objects.filter(pk__in=batch_ids.values()).annotate(call_count=Count("calls"))
    rows = batches.values_list("pk", "size", "call_count").order_by("pk")
    known = {pk: {"size": size, "calls": calls} for pk, size, calls in rows}
    return JsonResponse({"requests": batch_ids, "batches": known})


def _describe_lane(lane: LaneSettings) -> dict[str, Any]:
    effects = [format_effect(name, getattr(lane, name)) for name in ("window_s", "max_batch")]
    return {
        "name": Priority(lane.priority).name,
        "effects": " ".join(effects),
        "patience_s": lane.latency_ms / 1000 + GRACE_S,
    }
