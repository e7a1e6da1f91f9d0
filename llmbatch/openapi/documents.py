"""What the endpoints answer. The answers are made elsewhere; a test holds these forms to them."""

from typing import Any

from rest_framework import serializers

from chats.models import Status
from settings_app.models import BatchScope, Priority


def count(**kwargs: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, **kwargs)


def fraction(**kwargs: Any) -> serializers.FloatField:
    return serializers.FloatField(allow_null=True, **kwargs)


class UsageSerializer(serializers.Serializer):
    """Tokens of one answer, fixed when it was released."""

    prompt_tokens = count()
    output_tokens = count()
    thoughts_tokens = count()
    cached_tokens = count(help_text="The part of `prompt_tokens` from the model's cache.")
    total_tokens = count()
    estimated = serializers.BooleanField(required=False)


class PairSerializer(serializers.Serializer):
    request_id = serializers.CharField()
    username = serializers.CharField()
    created_at = serializers.DateTimeField()


class StoredAnswerSerializer(PairSerializer):
    text = serializers.CharField()
    tokens_used = count(allow_null=True)
    latency_ms = count(help_text="From acceptance to the answer's release.")
    completed_at = serializers.DateTimeField()


class AnswerSerializer(StoredAnswerSerializer):
    queue_ms = count(help_text="The part of `latency_ms` before its batch left.", allow_null=True)
    finish_reason = serializers.CharField()
    usage = UsageSerializer(allow_null=True)
    batch_id = serializers.IntegerField(allow_null=True)
    batch_size = serializers.IntegerField(allow_null=True)
    estimated = serializers.BooleanField(
        required=False, help_text="It was released before the model had counted its tokens."
    )


class AcceptedSerializer(serializers.Serializer):
    request_id = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)


class FailureSerializer(serializers.Serializer):
    """Why there is no answer: a code of POST /v1/query, and a sentence."""

    code = serializers.CharField()
    detail = serializers.CharField()


class StateSerializer(AcceptedSerializer):
    username = serializers.CharField()
    position = serializers.IntegerField(
        allow_null=True, min_value=1, help_text="1 leaves first; null once it has left the queue."
    )
    estimate_s = fraction(help_text="Until the answer, while it is queued.")
    response = AnswerSerializer(allow_null=True)
    error = FailureSerializer(allow_null=True)


class AskedSerializer(PairSerializer):
    prompt = serializers.CharField()
    priority = serializers.ChoiceField(Priority.choices)


class ChatSerializer(serializers.Serializer):
    timestamp = serializers.DateTimeField(help_text="When it was accepted.")
    batch_id = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(Status.choices)
    request = AskedSerializer()
    response = StoredAnswerSerializer(allow_null=True)
    suspect = serializers.CharField(
        allow_null=True, help_text="The sign that another prompt of its batch bent this answer."
    )
    error = FailureSerializer(allow_null=True)


class ChatPageSerializer(serializers.Serializer):
    chats = ChatSerializer(many=True, help_text="Most recent last.")
    count = count(help_text="Of all pages together.")
    next = serializers.URLField(allow_null=True, help_text="The older page.")
    previous = serializers.URLField(allow_null=True, help_text="The newer page.")


class LaneDocumentSerializer(serializers.Serializer):
    tokens = count(help_text="Output tokens of one answer.")
    latency_ms = count(help_text="The target.")
    window_s = serializers.FloatField(help_text="How long the oldest request waits for others.")
    max_batch = count()
    max_queue = count()
    batch_scope = serializers.ChoiceField(
        BatchScope.values, help_text="Whose prompts may share a call."
    )
    hold_until_checked = serializers.BooleanField(
        help_text="Answers wait for the whole reply and its checks."
    )
    style = serializers.CharField(help_text="The instruction to the model.")


class SettingsDocumentSerializer(serializers.Serializer):
    api_key = serializers.CharField(allow_null=True, help_text="Masked: `***` and the last four.")
    model = serializers.CharField()
    high_priority = LaneDocumentSerializer()
    medium_priority = LaneDocumentSerializer()
    low_priority = LaneDocumentSerializer()
    retention_days = count(help_text="0 keeps everything.")
    store_prompts = serializers.BooleanField()
    api_key_source = serializers.ChoiceField(["stored", "environment"], allow_null=True)
    api_key_problem = serializers.CharField(
        required=False, help_text="Why the stored key cannot be used."
    )


class KeyTestSerializer(serializers.Serializer):
    ok = serializers.BooleanField()
    reason = serializers.CharField(help_text="Why not; empty with `ok`.")


class TokensSerializer(serializers.Serializer):
    prompt = count()
    output = count()
    thoughts = count()
    cached = count()


class TimesSerializer(serializers.Serializer):
    """Percentiles within 5 %, the mean exactly; null where nothing was recorded."""

    p50 = fraction()
    p90 = fraction()
    p95 = fraction()
    p99 = fraction()
    mean = fraction()


class FiguresSerializer(serializers.Serializer):
    requests = count()
    answered = count()
    failed = count()
    batches = count()
    model_calls = count()
    calls_saved = serializers.IntegerField(
        help_text="Requests that left in batches, less the model calls made for them."
    )
    mean_batch_size = fraction()
    fill = fraction(help_text="Requests in batches, of the places that these had.")
    tokens = TokensSerializer()
    latency_ms = TimesSerializer()
    queue_ms = TimesSerializer()
    slo_attainment = fraction(help_text="The share answered within the lane's `latency_ms`.")
    failures = serializers.DictField(child=count(), help_text="By code.")


class DaySerializer(FiguresSerializer):
    date = serializers.DateField()


class CombiningSerializer(serializers.Serializer):
    """What combining cost."""

    overhead_tokens = count(help_text="Of instructions and keys.")
    estimated = serializers.BooleanField()
    waited_s = serializers.FloatField(help_text="The sum of all waits in the queue.")


class WeighedFiguresSerializer(FiguresSerializer):
    combining = CombiningSerializer()


class LanesSerializer(serializers.Serializer):
    HIGH = WeighedFiguresSerializer()
    MEDIUM = WeighedFiguresSerializer()
    LOW = WeighedFiguresSerializer()


class BatchesOfDaySerializer(serializers.Serializer):
    date = serializers.DateField()
    count = count()


class BatchesOfLaneSerializer(serializers.Serializer):
    name = serializers.ChoiceField(["High", "Medium", "Low"])
    value = count()


class AnalyticsSerializer(WeighedFiguresSerializer):
    total_requests = count(help_text="Batches.")
    high_priority = count(help_text="Batches.")
    medium_priority = count(help_text="Batches.")
    low_priority = count(help_text="Batches.")
    request_count_over_time = BatchesOfDaySerializer(many=True, help_text="Batches by UTC day.")
    priority_distribution = BatchesOfLaneSerializer(many=True, help_text="Batches by priority.")
    by_priority = LanesSerializer()
    by_day = DaySerializer(many=True)


class HealthSerializer(serializers.Serializer):
    status = serializers.ChoiceField(["ok"])


class ReadySerializer(HealthSerializer):
    checks = serializers.DictField(child=serializers.CharField(), help_text="`ok` of each part.")


class NotReadySerializer(serializers.Serializer):
    """The error form with what each part lacks."""

    status = serializers.ChoiceField(["unavailable"])
    checks = serializers.DictField(child=serializers.CharField())
    detail = serializers.CharField()
    code = serializers.ChoiceField(["not_ready"])
