"""The admin's lists of batches, model calls and daily figures."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join

from batching.models import Batch, DailyStat, ModelCall
from batching.pages.batch_detail import describe_batch
from chats.admin import RecordAdmin
from chats.clock import CLOCK
from chats.selectors import outside_index
from settings_app.models import Priority


@admin.register(Batch)
class BatchAdmin(RecordAdmin):
    list_display = ["id", "created_at", "priority", "trigger", "size", "outcome", "lateness_ms"]
    list_display += ["model", "finished_at"]
    list_filter = ["priority", "trigger", "outcome"]
    fields = [
        ("priority", "outcome", "trigger", "size"),
        ("model", "owner", "lateness_ms"),
        ("created_at", "finished_at"),
        "settings",
    ]
    date_hierarchy = "created_at"
    number_search = ["id"]
    search_help_text = "The number of a batch."

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        batch = self.get_object(request, unquote(object_id))
        context = extra_context or {}
        if batch is not None:
            context |= {"is_staff": True, "detail": describe_batch(batch, now=CLOCK.now())}
        return super().change_view(request, object_id, form_url, context)


class LaneFilter(admin.SimpleListFilter):
    title = "priority"
    parameter_name = "priority__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(priority.value), priority.label) for priority in Priority]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ModelCall]) -> QuerySet[ModelCall]:
        value = self.value()
        if value is None or value not in dict(self.lookup_choices):
            return queryset
        lane = int(value)
        # Few calls are single or failed. With the lane's index SQLite would read all calls of the
        # lane to find them, so beside such a filter the lane's condition must not use the index.
        others = {"status__exact", "kind__exact", "perhaps_billed__exact"} & set(request.GET)
        return queryset.filter(outside_index("priority", lane) if others else Q(priority=lane))


@admin.register(ModelCall)
class ModelCallAdmin(RecordAdmin):
    list_display = ["id", "started_at", "batch_link", "priority", "kind", "attempt", "plain_status"]
    list_display += ["finish_reason", "error_code", "prompt_tokens", "output_tokens", "duration_ms"]
    list_filter = [LaneFilter, "status", "kind", "perhaps_billed"]
    date_hierarchy = "started_at"
    number_search = ["id", "batch_id"]
    search_help_text = "The number of a call or of its batch."
    large_columns = ["prompt", "reply", "item_ids", "error_detail"]
    readonly_fields = ["batch_link", "chat_links"]

    @admin.display(description="chats")
    def chat_links(self, call: ModelCall) -> str:
        """Links to the chats of the call, in the order of its prompt."""
        links = [(reverse("admin:chats_chat_change", args=[pk]), pk) for pk in call.item_ids]
        return format_html_join(", ", '<a href="{}">{}</a>', links)

    @admin.display(description="status", ordering="status")
    def plain_status(self, call: ModelCall) -> str:
        return call.status


@admin.register(DailyStat)
class DailyStatAdmin(RecordAdmin):
    change_list_template = "admin/change_list.html"
    list_display = ["day", "priority", "requests", "answered", "in_time", "batches", "model_calls"]
    list_filter = ["priority"]
    date_hierarchy = "day"
    ordering = ["-day", "-priority"]
    sortable_by = None  # three rows a day
