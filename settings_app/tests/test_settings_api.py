"""The endpoint /v1/settings."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from settings_app.serializers import SettingsSerializer
from settings_app.snapshot import Snapshot, current_snapshot, refresh_snapshot
from settings_app.tests.stored import KEY, everything_stored

Call = Callable[..., Any]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("open_access")]


def test_defaults_are_the_documented_ones(read: Call) -> None:
    document = read()
    assert document["api_key"] is None
    assert document["model"] == "gemini-3.8-flash"
    table = {
        name: [document[name][k] for k in ("window_s", "max_batch", "tokens", "latency_ms")]
        for name in ("high_priority", "medium_priority", "low_priority")
    }
    assert table == {
        "high_priority": [0.2, 6, 1000, 500],
        "medium_priority": [1.0, 4, 5000, 2000],
        "low_priority": [4.0, 4, 10_000, 5000],
    }


def test_every_lane_has_a_bounded_queue_an_open_scope_and_a_style_of_its_own(read: Call) -> None:
    document = read()
    lanes = [document[name] for name in ("high_priority", "medium_priority", "low_priority")]
    assert [lane["max_queue"] for lane in lanes] == [10_000] * 3
    assert [lane["batch_scope"] for lane in lanes] == ["everyone"] * 3
    assert all(
        word in lane["style"].lower()
        for lane, word in zip(lanes, ("short and fast", "balanced", "detailed"), strict=True)
    )


def test_document_has_the_fields_of_the_contract(read: Call) -> None:
    document = read()
    assert {"api_key", "model", "high_priority", "medium_priority", "low_priority"} <= set(document)
    assert set(document["low_priority"]) == {
        "tokens",
        "latency_ms",
        "window_s",
        "max_batch",
        "max_queue",
        "queue_share",
        "batch_scope",
        "hold_until_checked",
        "style",
    }


def test_settings_are_never_cached(client: Client, change: Call) -> None:
    assert client.get("/v1/settings")["Cache-Control"] == "no-store"
    assert change({"model": "gemini-x"})["Cache-Control"] == "no-store"


def test_one_nested_field_changes_and_the_rest_stays(read: Call, change: Call) -> None:
    before = read()
    response = change({"medium_priority": {"max_batch": 9}})
    expected = before | {"medium_priority": before["medium_priority"] | {"max_batch": 9}}
    assert read() == expected
    assert response.json() == expected


def test_every_field_of_a_lane_can_be_changed(read: Call, change: Call) -> None:
    lane = {
        "tokens": 65_536,
        "latency_ms": 1,
        "window_s": 0,
        "max_batch": 100,
        "max_queue": 1,
        "queue_share": 100,
        "batch_scope": "username",
        "hold_until_checked": True,
        "style": "Wie ein Fuchs: kurz 🦊",
    }
    change({"low_priority": lane})
    assert read()["low_priority"] == lane


def test_several_parts_change_in_one_request(read: Call, change: Call) -> None:
    change({"model": "gemini-y", "high_priority": {"tokens": 7}, "low_priority": {"tokens": 8}})
    document = read()
    assert document["model"] == "gemini-y"
    assert document["high_priority"]["tokens"] == 7
    assert document["low_priority"]["tokens"] == 8


def test_latency_is_accepted_for_latency_ms(read: Call, change: Call) -> None:
    change({"high_priority": {"latency": 750}})
    document = read()
    assert document["high_priority"]["latency_ms"] == 750
    assert "latency" not in document["high_priority"]


def test_latency_that_contradicts_latency_ms_is_refused(change: Call) -> None:
    before = everything_stored()
    response = change({"high_priority": {"latency": 750, "latency_ms": 751}})
    assert everything_stored() == before
    assert response.status_code == 400
    assert "latency" in response.json()["errors"]["high_priority"]


def test_document_that_was_read_can_be_written_back(read: Call, change: Call) -> None:
    change({"api_key": KEY, "model": "gemini-z"})
    before = read()
    assert change(before).status_code == 200
    assert read() == before
    assert refresh_snapshot().api_key == KEY


def test_document_without_a_key_can_be_written_back(read: Call, change: Call) -> None:
    before = read()
    assert before["api_key_source"] is None
    assert change(before).json() == before


def test_whole_number_may_be_written_with_a_point(read: Call, change: Call) -> None:
    change({"retention_days": 30.0, "high_priority": {"max_batch": 3.0}})
    assert (read()["retention_days"], read()["high_priority"]["max_batch"]) == (30, 3)


def test_empty_change_changes_nothing(change: Call) -> None:
    before = everything_stored()
    assert change({}).status_code == 200
    assert change({"high_priority": {}}).status_code == 200
    assert everything_stored() == before


def test_empty_model_means_the_default(read: Call, change: Call) -> None:
    change({"model": "gemini-other"})
    change({"model": ""})
    assert read()["model"] == "gemini-3.8-flash"


@pytest.mark.parametrize(
    "name", ["gemini-4", "models/gemini-4", "tunedModels/my.model_2", "a" * 100]
)
def test_model_names_of_the_service_are_accepted(read: Call, change: Call, name: str) -> None:
    change({"model": name})
    assert read()["model"] == name


BAD_VALUES = [
    ("window_s", -0.001),
    ("window_s", 3600.5),
    ("window_s", True),
    ("window_s", "1"),
    ("window_s", None),
    ("window_s", []),
    ("max_batch", 0),
    ("max_batch", 101),
    ("max_batch", 1.5),
    ("max_batch", "a"),
    ("max_batch", "5"),
    ("max_batch", True),
    ("max_batch", None),
    ("max_batch", 10**99),
    ("tokens", 0),
    ("tokens", 65_537),
    ("tokens", -1),
    ("latency_ms", 0),
    ("latency_ms", False),
    ("latency", 0),
    ("max_queue", 0),
    ("max_queue", 1_000_001),
    ("queue_share", 0),
    ("queue_share", 101),
    ("batch_scope", "nobody"),
    ("batch_scope", ["everyone"]),
    ("batch_scope", None),
    ("hold_until_checked", "yes"),
    ("hold_until_checked", None),
    ("style", ""),
    ("style", "   "),
    ("style", "x" * 2001),
    ("style", "a\0b"),
    ("style", "\ud83d"),
    ("style", 5),
    ("no_such_field", 1),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES)
def test_bad_value_in_a_lane_is_named_and_nothing_changes(
    change: Call, field: str, value: Any
) -> None:
    before = everything_stored()
    response = change(
        {
            "api_key": KEY,
            "model": "gemini-good",
            "high_priority": {"max_queue": 77} | {field: value},
            "low_priority": {"tokens": 77},
        }
    )
    assert everything_stored() == before
    assert response.status_code == 400
    document = response.json()
    assert document["code"] == "invalid"
    assert field in document["errors"]["high_priority"]
    assert f"high_priority.{field}" in document["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ".."),
        ("model", "a/../b"),
        ("model", "/a"),
        ("model", "a?b"),
        ("model", "a&b"),
        ("model", "a b"),
        ("model", "modèle"),
        ("model", "a\0"),
        ("model", "a" * 101),
        ("model", 5),
        ("model", None),
        ("api_key", "with space"),
        ("api_key", "line\nbreak"),
        ("api_key", "   "),
        ("api_key", "nul\0key"),
        ("api_key", "schlüssel"),
        ("api_key", "x" * 201),
        ("api_key", 12345678),
        ("api_key", ["x"]),
        ("retention_days", -1),
        ("retention_days", 36_501),
        ("retention_days", 1.5),
        ("retention_days", "7"),
        ("retention_days", True),
        ("retention_days", None),
        ("retention_days", 10**99),
        ("store_prompts", "true"),
        ("store_prompts", 0),
        ("store_prompts", None),
        ("store_prompts", []),
        ("high_priority", 5),
        ("high_priority", None),
        ("high_priority", [1]),
        ("priority", {}),
        ("high", {"tokens": 5}),
    ],
)
def test_bad_value_is_named_and_nothing_changes(change: Call, field: str, value: Any) -> None:
    before = everything_stored()
    response = change({"low_priority": {"tokens": 77}, field: value})
    assert everything_stored() == before
    assert response.status_code == 400
    assert field in response.json()["errors"]


def test_retention_and_prompt_storage_have_defaults_and_can_be_changed(
    read: Call, change: Call
) -> None:
    before = read()
    assert (before["retention_days"], before["store_prompts"]) == (90, True)
    change({"retention_days": 0, "store_prompts": False})
    assert read() == before | {"retention_days": 0, "store_prompts": False}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_number_that_is_not_finite_is_refused_whatever_the_parser(value: float) -> None:
    serializer = SettingsSerializer(data={"high_priority": {"window_s": value}})
    assert not serializer.is_valid()
    assert "window_s" in serializer.errors["high_priority"]


def test_lone_surrogate_as_a_field_name_is_refused_with_a_readable_error(change: Call) -> None:
    response = change({"\ud83d": 1})
    assert response.status_code == 400
    assert response.json()["code"] == "invalid"


def test_change_applies_before_its_answer(
    change: Call, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    before: Snapshot = current_snapshot()
    with django_capture_on_commit_callbacks(execute=True):
        change({"high_priority": {"window_s": 0.75}})
    assert before.lanes[2].window_s == 0.2
    assert current_snapshot().lanes[2].window_s == 0.75


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_other_methods_are_refused_with_the_usual_error(client: Client, method: str) -> None:
    response = client.generic(method, "/v1/settings", "{}", "application/json")
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert "PATCH" in response["Allow"]


def test_accept_header_does_not_change_the_content_type(
    client: Any, db: None, settings: Any
) -> None:
    settings.API_ACCESS = "open"
    reply = client.get("/v1/settings", headers={"accept": "application/xml, text/html"})
    assert reply.status_code == 200
    assert reply.json()["model"]
