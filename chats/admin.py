"""The admin's list of requests and answers."""

from functools import reduce
from operator import or_
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from chats.admin_lists import BoundedPaginator, RecordList
from chats.id_ranges import MAX_ID
from chats.models import Chat
from settings_app.admin_base import ReadOnlyAdmin


class RecordAdmin(ReadOnlyAdmin):
    """Lists the records of a large table; every search and sort uses an index."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    ordering = ["-id"]
    # Sorting by another column would sort a million rows.
    sortable_by: ClassVar[list[str] | None] = ["id"]
    change_list_template = "admin/record_list.html"
    number_search: list[str] = []
    # A list does not show these columns, so it does not read them.
    large_columns: list[str] = []

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordList]:
        return RecordList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and (match.url_name or "").endswith("_changelist")
        return rows.defer(*self.large_columns) if is_list else rows

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*self.search_fields, *self.number_search]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Finds rows by the whole text of a search field or by a number."""
        term = search_term.strip()
        if not term or "\0" in term:
            return (queryset.none() if term else queryset), False
        conditions = [Q(**{name: term}) for name in self.search_fields]
        if term.isdecimal() and int(term[:20]) <= MAX_ID:
            conditions += [Q(**{name: int(term)}) for name in self.number_search]
        return (queryset.filter(reduce(or_, conditions)) if conditions else queryset.none()), False

    @admin.display(description="batch", ordering="batch_id")
    def batch_link(self, row: Any) -> str:
        if row.batch_id is None:
            return ""
        address = reverse("admin:batching_batch_change", args=[row.batch_id])
        return format_html('<a href="{}">{}</a>', address, row.batch_id)


class SuspectFilter(admin.SimpleListFilter):
    title = "suspect"
    parameter_name = "suspect"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "An answer failed a leak check")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Chat]) -> QuerySet[Chat]:
        return queryset.exclude(suspect="") if self.value() else queryset


def export_query(parameters: QueryDict) -> str:
    """Translates the list's filters into the query string of the page of chats."""
    names = {"priority": "priority__exact", "status": "status__exact"}
    given = {name: parameters.get(lookup) for name, lookup in names.items()}
    return urlencode({name: value for name, value in given.items() if value})


@admin.register(Chat)
class ChatAdmin(RecordAdmin):
    change_list_template = "admin/chat_list.html"
    list_display = [
        "id",
        "received_at",
        "username",
        "priority",
        "status",
        "batch_link",
        "latency_ms",
        "tokens_used",
        "error_code",
        "client",
        "request_id",
    ]
    list_filter = ["priority", "status", SuspectFilter]
    list_select_related = ["client"]
    search_fields = ["username__exact", "request_id__exact"]
    number_search = ["id"]
    search_help_text = "A whole username, a whole request id, or the number of a chat."
    date_hierarchy = "received_at"
    large_columns = ["prompt", "text", "usage", "error_detail"]
    readonly_fields = ["batch_link", "call_links"]

    @admin.display(description="model calls")
    def call_links(self, chat: Chat) -> str:
        """Links to the calls of the chat's batch that contained the chat."""
        if chat.batch is None:
            return ""
        calls = chat.batch.calls.order_by("id").only("kind", "status", "item_ids")
        links = [
            (reverse("admin:batching_modelcall_change", args=[call.pk]), call, call.status)
            for call in calls
            if chat.pk in call.item_ids
        ]
        return format_html_join(", ", '<a href="{}">{}</a> ({})', links)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"export_query": export_query(request.GET)}
        return super().changelist_view(request, (extra_context or {}) | context)
