"""Describes /v1/settings."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema

from llmbatch.openapi.describe import CHALLENGE, answer, retry_after
from llmbatch.openapi.documents import KeyTestSerializer, SettingsDocumentSerializer
from llmbatch.openapi.refusals import describe_refusals
from settings_app.serializers import SettingsSerializer

TAGS = ["Settings"]
REFUSALS = ["not_authenticated", "permission_denied"]


def _lane(tokens: int, latency_ms: int, window_s: float, max_batch: int) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "latency_ms": latency_ms,
        "window_s": window_s,
        "max_batch": max_batch,
        "max_queue": 10_000,
        "batch_scope": "everyone",
        "hold_until_checked": False,
        "style": "Answer briefly.",
    }


DOCUMENT = {
    "api_key": "***9xQz",
    "model": "gemini-3.8-flash",
    "high_priority": _lane(1000, 500, 0.2, 6),
    "medium_priority": _lane(5000, 2000, 1.0, 4),
    "low_priority": _lane(10_000, 5000, 4.0, 4),
    "retention_days": 90,
    "store_prompts": True,
    "api_key_source": "stored",
}
CHANGES = [
    OpenApiExample("one lane", {"high_priority": {"window_s": 0.1}}, request_only=True),
    OpenApiExample(
        "model and retention",
        {"model": "gemini-3.8-flash", "retention_days": 30},
        request_only=True,
    ),
]

READ = extend_schema(
    tags=TAGS,
    operation_id="get_settings",
    summary="Get the settings",
    parameters=[CHALLENGE, retry_after(503)],
    responses={
        200: answer(SettingsDocumentSerializer, "All settings.", settings=DOCUMENT),
        **describe_refusals(REFUSALS),
    },
)


def _change(operation_id: str) -> Any:
    return extend_schema(
        tags=TAGS,
        operation_id=operation_id,
        summary="Change any subset of the settings",
        description=(
            "PUT and PATCH do the same. Fields that are absent keep their values; an invalid value"
            ' leaves all settings unchanged. `"api_key": ""` deletes the stored key, its mask keeps'
            " it. `latency` is another name of `latency_ms`."
        ),
        request=SettingsSerializer,
        examples=CHANGES,
        parameters=[CHALLENGE, retry_after(503)],
        responses={
            200: answer(
                SettingsDocumentSerializer, "The settings after the change.", settings=DOCUMENT
            ),
            **describe_refusals(["invalid", *REFUSALS, "too_large", "unsupported_media_type"]),
        },
    )


PUT = _change("replace_settings")
PATCH = _change("change_settings")

TEST_KEY = extend_schema(
    tags=TAGS,
    operation_id="test_model_key",
    summary="Test the model key",
    description="Asks the model service whether key and model work. Costs no tokens.",
    request=None,
    parameters=[CHALLENGE, retry_after(503)],
    responses={
        200: answer(
            KeyTestSerializer,
            "The result of the test.",
            works={"ok": True, "reason": ""},
            refused={"ok": False, "reason": "The model service rejected the key."},
        ),
        **describe_refusals(REFUSALS),
    },
)
