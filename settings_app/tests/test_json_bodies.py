"""StrictJSONParser without the middleware in front of it."""

from io import BytesIO
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError

from settings_app.json_bodies import MAX_INTEGER_DIGITS, StrictJSONParser


def parse(body: bytes, encoding: str = "utf-8") -> Any:
    return StrictJSONParser().parse(BytesIO(body), "application/json", {"encoding": encoding})


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "\\u00e9"]}', {"a": [1, 2.5, True, None, "é"]}),
        ("🦊".encode().join([b'"', b'"']), "🦊"),
        (b" 5 ", 5),
        (b"-0", 0),
        (b"9" * MAX_INTEGER_DIGITS, 10**MAX_INTEGER_DIGITS - 1),
    ],
)
def test_json_is_read(body: bytes, value: Any) -> None:
    assert parse(body) == value


def test_announced_charset_is_ignored() -> None:
    assert parse('"ä"'.encode(), encoding="latin-1") == "ä"


def test_body_over_the_bound_is_refused_without_content_length(
    settings: Any,
) -> None:
    settings.MAX_BODY_BYTES = 10
    assert parse(b'"12345678"') == "12345678"
    with pytest.raises(RequestDataTooBig):
        parse(b'"123456789"')


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 500_000, b'"\xff"', b"NaN", b"-Infinity", b"1" * 101, b"1" * 5000, b"\0"],
    ids=["empty", "cut", "deep", "not UTF-8", "NaN", "-Infinity", "long", "very long", "NUL"],
)
def test_body_that_is_not_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        parse(body)
