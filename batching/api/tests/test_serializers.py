import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from batching.api.serializers import parse_plain_query, parse_query
from batching.engine.lanes import Priority

GOOD = {"username": "ann", "prompt": "Why?"}
ODD = st.sampled_from(
    [
        *[None, "", " ", " a", "a ", "\x00", "a\x00", "\ud83d", "x" * 201, 0, 1, 2, 3, True, 1.0],
        *["HIGH", "high", " Low ", "2", "5", "MEDIUM", [], {}, "a\nb", "\x1b[2J", "🎉", "\u00a0"],
    ]
)


@given(
    st.dictionaries(
        st.sampled_from(["username", "prompt", "priority", "request_id", "timeout_s", "extra"]),
        ODD | st.text(max_size=8),
    ),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_fast_parser_agrees_with_the_serializer_on_what_it_accepts(
    changes: dict[str, Any], filled: bool
) -> None:
    document = (GOOD if filled else {}) | changes
    plain = parse_plain_query(json.dumps(document).encode())
    if plain is not None:
        assert plain == parse_query(document)


def test_fast_parser_accepts_ordinary_bodies() -> None:
    for more in ({}, {"priority": "HIGH"}, {"priority": 0}, {"request_id": "r/1"}):
        assert parse_plain_query(json.dumps(GOOD | more).encode()) is not None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 10**6, b"\xff\xfe", b"9" * 5000])
def test_fast_parser_leaves_other_bodies_to_the_serializer(body: bytes) -> None:
    assert parse_plain_query(body) is None


@pytest.mark.parametrize(
    ("given_priority", "expected"),
    [("HIGH", 2), ("high", 2), (" Medium ", 1), ("low", 0), (2, 2), (1, 1), (0, 0), ("2", 2)],
)
def test_priority_is_a_name_in_any_case_or_a_number(given_priority: Any, expected: int) -> None:
    assert parse_query(GOOD | {"priority": given_priority}).priority == expected


def test_priority_is_medium_unless_given() -> None:
    assert parse_query(GOOD).priority is Priority.MEDIUM


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", None),
        ("username", ""),
        ("username", "   "),
        ("username", 7),
        ("username", "a\x00"),
        ("username", "\ud83d"),
        ("username", "x" * 201),
        ("prompt", None),
        ("prompt", ""),
        ("prompt", " \n"),
        ("prompt", ["Why?"]),
        ("prompt", "a\x00"),
        ("prompt", "\udfff"),
        ("priority", "URGENT"),
        ("priority", 3),
        ("priority", True),
        ("priority", 1.0),
        ("priority", None),
        ("priority", []),
        ("request_id", "x" * 201),
        ("request_id", 7),
        ("request_id", "a\x00"),
        ("created_at", "yesterday"),
        ("created_at", 1e300),
        ("created_at", "0001-01-01T00:00:00+23:59"),
        ("created_at", "9999-12-31T23:59:59-23:59"),
        ("timeout_s", 0),
        ("timeout_s", -1),
        ("timeout_s", "soon"),
        ("timeout_s", float("nan")),
        ("timeout_s", True),
    ],
)
def test_bad_value_is_refused_under_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_query(GOOD | {field: value})
    assert list(refused.value.detail) == [field]


@pytest.mark.parametrize("timeout_s", [86_400, 86_401, 1e300, 10**99, 10**400, float("inf")])
def test_no_timeout_is_too_long(timeout_s: float) -> None:
    parsed = parse_query(GOOD | {"timeout_s": timeout_s}).timeout_s
    assert parsed is not None
    assert 86_400 <= parsed < float("inf")


@pytest.mark.parametrize("field", ["username", "prompt"])
def test_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_query({name: value for name, value in GOOD.items() if name != field})
    assert list(refused.value.detail) == [field]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
    ],
)
def test_naive_time_means_utc(text: str, expected: datetime) -> None:
    assert parse_query(GOOD | {"created_at": text}).created_at == expected


def test_prompt_keeps_its_white_space_and_control_characters() -> None:
    prompt = "  def f():\n\treturn '\x1b' "
    assert parse_query(GOOD | {"prompt": prompt}).prompt == prompt
