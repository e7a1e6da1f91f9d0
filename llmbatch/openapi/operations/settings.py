"""Describes /v1/settings."""

from functools import partial

from llmbatch.openapi.describe import answer, operation
from llmbatch.openapi.documents import KeyTestSerializer, SettingsDocumentSerializer
from llmbatch.openapi.refusals import BODY_ERRORS
from settings_app.serializers import SettingsSerializer

_LANE = {
    "max_queue": 10_000,
    "queue_share": 50,
    "batch_scope": "everyone",
    "hold_until_checked": False,
    "style": "Answer briefly.",
}
DOCUMENT = {
    "api_key": "***9xQz",
    "model": "gemini-3.8-flash",
    "high_priority": {"tokens": 1000, "latency_ms": 500, "window_s": 0.2, "max_batch": 6} | _LANE,
    "medium_priority": {"tokens": 5000, "latency_ms": 2000, "window_s": 1.0, "max_batch": 4}
    | _LANE,
    "low_priority": {"tokens": 10_000, "latency_ms": 5000, "window_s": 4.0, "max_batch": 4} | _LANE,
    "retention_days": 90,
    "store_prompts": True,
    "api_key_source": "stored",
}

READ = operation(
    "Settings",
    "get_settings",
    "Get the settings",
    {200: answer(SettingsDocumentSerializer, "All settings.", settings=DOCUMENT)},
)

_change = partial(
    operation,
    "Settings",
    summary="Change any subset of the settings",
    responses={
        200: answer(SettingsDocumentSerializer, "The settings after the change.", settings=DOCUMENT)
    },
    description="PUT and PATCH do the same. Fields that are absent keep their values; an invalid"
    ' value leaves all settings unchanged. `"api_key": ""` deletes the stored key, its mask keeps'
    " it. `latency` is another name of `latency_ms`.",
    request=SettingsSerializer,
    bodies={
        "one lane": {"high_priority": {"window_s": 0.1}},
        "model and retention": {"model": "gemini-3.8-flash", "retention_days": 30},
    },
    errors=BODY_ERRORS,
)
PUT = _change("replace_settings")
PATCH = _change("change_settings")

TEST_KEY = operation(
    "Settings",
    "test_model_key",
    "Test the model key",
    {
        200: answer(
            KeyTestSerializer,
            "The result of the test.",
            works={"ok": True, "reason": ""},
            refused={"ok": False, "reason": "The model service rejected the key."},
        ),
    },
    description="Asks the model service whether key and model work. Costs no tokens.",
    request=None,
)
