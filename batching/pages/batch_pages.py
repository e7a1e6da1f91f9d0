"""`/batches`: the batches of a time, a lane or an outcome; and the story of one."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from rest_framework import serializers

from batching.models import Batch, Outcome
from batching.pages.batch_detail import tell_batch
from batching.pages.batch_list import BatchFilter, BatchPage, list_batches
from chats.id_ranges import MAX_ID
from chats.page_forms import format_for_field, format_query
from chats.serializers import QueryParameters, TimestampParameter
from settings_app.access.page_access import for_readers, may_administer
from settings_app.fields import PriorityField
from settings_app.models import Priority


class BatchParameters(QueryParameters):
    priority = PriorityField(required=False)
    outcome = serializers.ChoiceField(Outcome.choices, required=False)
    to = TimestampParameter(required=False)
    before = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        return super().get_fields() | {"from": TimestampParameter(required=False)}

    @property
    def which(self) -> BatchFilter:
        given = self.validated_data
        outcome = given.get("outcome")
        return BatchFilter(
            priority=given.get("priority"),
            outcome=Outcome(outcome) if outcome else None,
            created_from=given.get("from"),
            created_until=given.get("to"),
        )


@require_safe
@for_readers
def batch_list(request: HttpRequest) -> HttpResponse:
    parameters = BatchParameters(data=request.GET)
    if parameters.is_valid():
        before = parameters.validated_data.get("before", MAX_ID)
        page = list_batches(parameters.which, before=before)
    else:
        page = BatchPage([], 0, None)
    context = {
        "page": page,
        "problems": parameters.problems,
        "form": describe_form(parameters),
        "asked": format_query(request.GET, parameters, without=["before"]),
        "newest": "before" not in request.GET,
    }
    return render(request, "batches.html", context, status=400 if parameters.errors else 200)


def describe_form(parameters: BatchParameters) -> dict[str, Any]:
    valid = parameters.validated_data if not parameters.errors else {}
    return {
        "priorities": [(p.name, p.label, valid.get("priority") == p) for p in Priority],
        "outcomes": [(o.value, o.label, valid.get("outcome") == o.value) for o in Outcome],
        "from": format_for_field(valid.get("from")),
        "to": format_for_field(valid.get("to")),
    }


@require_safe
@for_readers
def batch_page(request: HttpRequest, batch_id: int) -> HttpResponse:
    batch = get_object_or_404(Batch, pk=min(batch_id, MAX_ID))
    story = tell_batch(batch, now=timezone.now())
    context = {"batch": batch, "story": story, "is_staff": may_administer(request)}
    return render(request, "batch.html", context)
