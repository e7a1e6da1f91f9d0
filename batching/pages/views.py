"""Pages for people: the dashboard, the live page, and the button that tests the model key."""

from datetime import UTC, date, datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from batching.analytics.summary import summarize, summarize_now
from batching.pages.dashboard_charts import draw_charts
from batching.pages.figures import compare_lanes, list_figures
from batching.pages.links import RowLinks
from batching.pages.periods import DAY_CHOICES, Period, PeriodForm
from batching.pages.savings import summarize_savings
from batching.process.runtime import get_runtime
from settings_app.access.page_access import for_readers
from settings_app.models import Priority
from settings_app.snapshot import refresh_if_stale


def today_utc() -> date:
    return datetime.now(UTC).date()


def describe_period(
    period: Period, request: HttpRequest, *, compared: bool = False
) -> dict[str, Any]:
    """What the templates need to show a period's figures and charts."""
    summary = summarize_now(first=period.first, last=period.last)
    before = period.before if compared else None
    earlier = before and summarize(first=before.first, last=before.last)
    links = RowLinks.of(period, request)
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
        "worth": summarize_savings(summary, links=links),
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
    """What /ws/live tells, drawn by the browser."""
    lanes = [priority.name for priority in sorted(Priority, reverse=True)]
    return render(request, "live.html", {"lanes": lanes})


@require_POST
async def test_key(request: HttpRequest) -> HttpResponse:
    """The settings page's button: the same question as POST /v1/settings/test-key."""
    user = await request.auser()
    if not (user.is_staff and await user.ahas_perm("settings_app.change_gatewaysettings")):
        raise PermissionDenied
    trouble = await (await get_runtime()).test_model_key()
    if trouble:
        messages.error(request, f"The key test failed: {trouble}")
    else:
        messages.success(request, "The model service accepts the key and knows the model.")
    return redirect("admin:settings_app_gatewaysettings_change", 1)
