"""/v1/settings answers every invalid body with 400, 413 or 415 and the usual error document."""

from typing import Any

import pytest
from django.test import Client

from settings_app.models import GatewaySettings

JSON = "application/json"

BAD_JSON = {
    "nothing but a brace": b"{",
    "prose": b"hello",
    "a single quote": b"{'model': 'x'}",
    "two documents": b"{}{}",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": '{"model": "x"}'.encode("utf-16"),
    "a surrogate in UTF-8": b'{"model": "\xed\xa0\xbd"}',
    "NUL bytes": b"\0\0\0\0",
    "a raw NUL in a string": b'{"model": "a\0b"}',
    "a million brackets": b"[" * 999_999,
    "a million objects": b'{"a":' * 199_000,
    "closed brackets": b"[" * 400_000 + b"]" * 400_000,
    "NaN": b'{"high_priority": {"window_s": NaN}}',
    "Infinity": b'{"high_priority": {"window_s": Infinity}}',
    "minus Infinity": b'{"high_priority": {"window_s": -Infinity}}',
    "an integer of 101 digits": b'{"high_priority": {"window_s": ' + b"9" * 101 + b"}}",
    "an integer of 5000 digits": b'{"high_priority": {"max_batch": ' + b"9" * 5000 + b"}}",
    "an integer of 900,000 digits": b"9" * 900_000,
}
BAD_DOCUMENTS = {
    "a list": b"[]",
    "a list of changes": b'[{"model": "x"}]',
    "text": b'"model"',
    "a number": b"5",
    "true": b"true",
    "null": b"null",
    "an infinite float": b'{"high_priority": {"window_s": 1e999}}',
    "an integer no float holds": b'{"high_priority": {"window_s": ' + b"9" * 100 + b"}}",
    "an escaped NUL": b'{"model": "a\\u0000b"}',
    "an escaped lone surrogate": b'{"high_priority": {"style": "\\ud83d"}}',
    "a lone surrogate as a name": b'{"\\udfff": 1}',
    "a nested list as a value": b'{"model": ' + b"[" * 300 + b"]" * 300 + b"}",
    "a hundred thousand unknown fields": b"{"
    + b",".join(b'"f%d":1' % number for number in range(70_000))
    + b"}",
}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _open_access(settings: Any) -> None:
    settings.API_ACCESS = "open"


def send(client: Client, body: bytes, content_type: str = JSON, **headers: Any) -> Any:
    before = GatewaySettings.objects.values().get()
    response = client.generic("PATCH", "/v1/settings", body, content_type, **headers)
    assert GatewaySettings.objects.values().get() == before
    assert response["Content-Type"] == "application/json"
    assert set(response.json()) - {"errors"} == {"detail", "code"}
    return response


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_body_that_is_not_json_is_400(client: Client, body: bytes) -> None:
    response = send(client, body)
    assert response.json() == {"detail": "The body is not valid JSON.", "code": "invalid"}
    assert response.status_code == 400


@pytest.mark.parametrize("body", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS.keys())
def test_json_that_is_not_a_settings_document_is_400(client: Client, body: bytes) -> None:
    response = send(client, body)
    assert response.json()["code"] == "invalid"
    assert response.json()["errors"]
    assert response.status_code == 400
    assert len(response.content) < 10_000


@pytest.mark.parametrize("size", [1_000_001, 3_000_000, 10_000_000])
def test_body_over_one_megabyte_is_413(client: Client, size: int) -> None:
    response = send(client, b" " * (size - 2) + b"{}")
    assert response.json()["code"] == "too_large"
    assert response.status_code == 413


def test_body_of_one_megabyte_is_read(client: Client) -> None:
    response = client.generic("PATCH", "/v1/settings", b" " * 999_998 + b"{}", JSON)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/html",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/xml",
        "application/jsonp",
        "json",
        ";;;",
        "application/json/json",
    ],
)
def test_other_content_type_is_415(client: Client, content_type: str) -> None:
    response = send(client, b'{"model": "x"}', content_type)
    assert response.json()["code"] == "unsupported_media_type"
    assert response.status_code == 415


@pytest.mark.parametrize(
    "charset", ["utf-8", "latin-1", "bz2", "rot13", "hex", "utf-16", "no-such"]
)
def test_body_is_read_as_utf_8_whatever_charset_is_announced(client: Client, charset: str) -> None:
    body = '{"high_priority": {"style": "für Füchse"}}'.encode()
    content_type = f"application/json; charset={charset}"
    response = client.generic("PATCH", "/v1/settings", body, content_type)
    assert response.json()["high_priority"]["style"] == "für Füchse"


@pytest.mark.parametrize("length", ["-5", "abc", "", "1,2", "9" * 5000, "²"])
def test_invalid_content_length_is_no_server_error(client: Client, length: str) -> None:
    response = client.generic("PATCH", "/v1/settings", b"{", JSON, CONTENT_LENGTH=length)
    assert response["Content-Type"] == "application/json"
    assert response.status_code < 500
