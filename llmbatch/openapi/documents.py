"""Describes the JSON documents that the endpoints return.

The serializers produce nothing. Tests compare the real responses with them.
"""

from typing import Any

from rest_framework import serializers

from chats.models import Status
from settings_app.models import BatchScope, Priority


def count(**kwargs: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, **kwargs)


def fraction(**kwargs: Any) -> serializers.FloatField:
    return serializers.FloatField(allow_null=True, **kwargs)


Document = serializers.Serializer[Any]


class UsageSerializer(Document):
    """Tokens of one answer, counted when it was released."""

    prompt_tokens = count()
    output_tokens = count()
    thoughts_tokens = count()
    cached_tokens = count(help_text="The part of `prompt_tokens` from the model's cache.")
    total_tokens = count()
    estimated = serializers.BooleanField(required=False)


class RequestIdentitySerializer(Document):
    request_id = serializers.CharField()
    username = serializers.CharField()
    created_at = serializers.DateTimeField()


class StoredAnswerSerializer(RequestIdentitySerializer):
    text = serializers.CharField()
    tokens_used = count(allow_null=True)
    latency_ms = count(help_text="From acceptance to the answer's release.")
    completed_at = serializers.DateTimeField()


class AnswerSerializer(StoredAnswerSerializer):
    queue_ms = count(
        help_text="The part of `latency_ms` before its batch was sent.", allow_null=True
    )
    finish_reason = serializers.CharField()
    usage = UsageSerializer(allow_null=True)
    batch_id = serializers.IntegerField(allow_null=True)
    batch_size = serializers.IntegerField(allow_null=True)
    estimated = serializers.BooleanField(
        required=False, help_text="True if it was released before the model had counted its tokens."
    )


class AcceptedSerializer(Document):
    request_id = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)


class FailureSerializer(Document):
    """The error in place of an answer, as POST /v1/query would return it."""

    code = serializers.CharField()
    detail = serializers.CharField()


class StateSerializer(AcceptedSerializer):
    username = serializers.CharField()
    position = serializers.IntegerField(
        allow_null=True,
        min_value=1,
        help_text="1 is sent first; null once the request has left the queue.",
    )
    estimate_s = fraction(help_text="Seconds until the answer, while the request is queued.")
    response = AnswerSerializer(allow_null=True)
    error = FailureSerializer(allow_null=True)


class StoredRequestSerializer(RequestIdentitySerializer):
    prompt = serializers.CharField()
    priority = serializers.ChoiceField(Priority.choices)


class ChatSerializer(Document):
    timestamp = serializers.DateTimeField(help_text="When the request was accepted.")
    batch_id = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(Status.choices)
    request = StoredRequestSerializer()
    response = StoredAnswerSerializer(allow_null=True)
    suspect = serializers.CharField(
        allow_null=True,
        help_text="Why another prompt of its batch may have influenced this answer.",
    )
    error = FailureSerializer(allow_null=True)


class ChatPageSerializer(Document):
    chats = ChatSerializer(many=True, help_text="The most recent chat is the last.")
    count = count(help_text="Number of chats on all pages.")
    next = serializers.URLField(allow_null=True, help_text="The older page.")
    previous = serializers.URLField(allow_null=True, help_text="The newer page.")


class LaneDocumentSerializer(Document):
    tokens = count(help_text="Output tokens of one answer.")
    latency_ms = count(help_text="The latency target.")
    window_s = serializers.FloatField(help_text="Seconds that the oldest request waits for others.")
    max_batch = count()
    max_queue = count()
    queue_share = serializers.IntegerField(
        help_text="Percent of `max_queue` that one client may hold while others wait."
    )
    batch_scope = serializers.ChoiceField(
        BatchScope.values, help_text="Whose prompts may share a call."
    )
    hold_until_checked = serializers.BooleanField(
        help_text="Answers are held until the whole reply has been checked."
    )
    style = serializers.CharField(  # type: ignore[assignment]  # hides an attribute of Field
        help_text="The instruction to the model."
    )


class SettingsDocumentSerializer(Document):
    api_key = serializers.CharField(
        allow_null=True, help_text="Masked: `***` and the last four characters."
    )
    model = serializers.CharField()
    high_priority = LaneDocumentSerializer()
    medium_priority = LaneDocumentSerializer()
    low_priority = LaneDocumentSerializer()
    retention_days = count(help_text="0 keeps records forever.")
    store_prompts = serializers.BooleanField()
    api_key_source = serializers.ChoiceField(["stored", "environment"], allow_null=True)
    api_key_problem = serializers.CharField(
        required=False, help_text="Why the stored key cannot be used."
    )


class KeyTestSerializer(Document):
    ok = serializers.BooleanField()
    reason = serializers.CharField(help_text="Why the test failed; empty if `ok` is true.")


class TokensSerializer(Document):
    prompt = count()
    output = count()
    thoughts = count()
    cached = count()


class DurationsSerializer(Document):
    """Percentiles (within 5 %) and the exact mean; null without records."""

    p50 = fraction()
    p90 = fraction()
    p95 = fraction()
    p99 = fraction()
    mean = fraction()


class FiguresSerializer(Document):
    requests = count()
    answered = count()
    failed = count()
    batches = count()
    model_calls = count()
    calls_saved = serializers.IntegerField(
        help_text="Requests sent in batches, less the model calls made for them."
    )
    mean_batch_size = fraction()
    fill = fraction(help_text="Requests per slot of the batches that carried them.")
    tokens = TokensSerializer()
    latency_ms = DurationsSerializer()
    queue_ms = DurationsSerializer()
    slo_attainment = fraction(help_text="The share of answers within the lane's `latency_ms`.")
    failures = serializers.DictField(
        child=count(), help_text="Number of failed requests by error code."
    )


class DaySerializer(FiguresSerializer):
    date = serializers.DateField()


class OverheadSerializer(Document):
    """The cost of combining prompts."""

    overhead_tokens = count(help_text="Tokens of the instructions and keys that combining adds.")
    estimated = serializers.BooleanField()
    waited_s = serializers.FloatField(
        help_text="Seconds that all requests together waited in the queue."
    )


class FiguresWithOverheadSerializer(FiguresSerializer):
    combining = OverheadSerializer()


class LanesSerializer(Document):
    HIGH = FiguresWithOverheadSerializer()
    MEDIUM = FiguresWithOverheadSerializer()
    LOW = FiguresWithOverheadSerializer()


class BatchesByDaySerializer(Document):
    date = serializers.DateField()
    count = count()


class BatchesByLaneSerializer(Document):
    name = serializers.ChoiceField(["High", "Medium", "Low"])
    value = count()


class AnalyticsSerializer(FiguresWithOverheadSerializer):
    total_requests = count(help_text="Number of batches.")
    high_priority = count(help_text="Number of batches.")
    medium_priority = count(help_text="Number of batches.")
    low_priority = count(help_text="Number of batches.")
    request_count_over_time = BatchesByDaySerializer(
        many=True, help_text="Number of batches by UTC day."
    )
    priority_distribution = BatchesByLaneSerializer(
        many=True, help_text="Number of batches by priority."
    )
    by_priority = LanesSerializer()
    by_day = DaySerializer(many=True)


class HealthSerializer(Document):
    status = serializers.ChoiceField(["ok"])


class ReadySerializer(HealthSerializer):
    checks = serializers.DictField(child=serializers.CharField(), help_text="`ok` for each part.")


class NotReadySerializer(Document):
    """The error form, and the problem of each part."""

    status = serializers.ChoiceField(["unavailable"])
    checks = serializers.DictField(child=serializers.CharField())
    detail = serializers.CharField()
    code = serializers.ChoiceField(["not_ready"])
