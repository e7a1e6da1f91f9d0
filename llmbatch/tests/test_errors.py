"""Every error response of the API has one form."""

import json
import logging
from typing import Any

import pytest
from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions, serializers

from batching.engine import errors as engine_errors
from batching.engine.errors import GatewayError
from llmbatch.errors import handle_exception, json_error

ENGINE_ERRORS = {
    "RequestConflict": (409, "request_conflict", None),
    "Cancelled": (409, "cancelled", None),
    "AlreadyDispatched": (409, "already_dispatched", None),
    "RequestNotFound": (404, "not_found", None),
    "AmbiguousRequest": (409, "ambiguous_request", None),
    "TooLarge": (413, "too_large", None),
    "Blocked": (502, "blocked", None),
    "Truncated": (502, "truncated", None),
    "MissingAnswer": (502, "missing_answer", None),
    "UpstreamError": (502, "upstream_error", None),
    "UpstreamRejectedKey": (502, "upstream_rejected_key", None),
    "QueueFull": (503, "queue_full", "1"),
    "ShuttingDown": (503, "shutting_down", "5"),
    "NoApiKey": (503, "no_api_key", "60"),
    "UpstreamUnavailable": (503, "upstream_unavailable", "5"),
    "TimedOut": (504, "timeout", None),
}

FRAMEWORK_ERRORS = [
    (exceptions.ParseError("near column 5"), 400, "invalid"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 400, "invalid"),
    (RecursionError("too deep"), 400, "invalid"),
    (SuspiciousOperation("odd"), 400, "invalid"),
    (DisallowedHost("evil.example"), 400, "invalid"),
    (exceptions.NotAuthenticated(), 401, "not_authenticated"),
    (exceptions.AuthenticationFailed(), 401, "not_authenticated"),
    (PermissionDenied("no"), 403, "permission_denied"),
    (exceptions.PermissionDenied(), 403, "permission_denied"),
    (Http404("no row 5"), 404, "not_found"),
    (exceptions.NotFound(), 404, "not_found"),
    (exceptions.MethodNotAllowed("POST"), 405, "method_not_allowed"),
    (RequestDataTooBig("big"), 413, "too_large"),
    (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
    (exceptions.Throttled(7), 429, "rate_limited"),
]


def read(response: HttpResponse) -> dict[str, Any]:
    """Checks the form of the error document and returns it."""
    assert response["Content-Type"] == "application/json"
    document = json.loads(response.content)
    assert isinstance(document["detail"], str)
    assert document["detail"].strip()
    assert set(document) - {"errors"} == {"detail", "code"}
    return document


def test_table_lists_every_error_of_the_engine() -> None:
    classes = {c.__name__ for c in vars(engine_errors).values() if isinstance(c, type)}
    assert classes - {"GatewayError", "ClassVar"} == set(ENGINE_ERRORS)


@pytest.mark.parametrize("name", ENGINE_ERRORS)
def test_engine_error_has_its_status_and_code_and_its_docstring_as_detail(name: str) -> None:
    error: GatewayError = getattr(engine_errors, name)()
    response = handle_exception(error)
    assert read(response) == {"detail": type(error).__doc__.strip(), "code": error.code}
    actual = response.status_code, error.code, response.headers.get("Retry-After")
    assert actual == ENGINE_ERRORS[name]


def test_detail_and_retry_time_of_an_error_override_those_of_its_class() -> None:
    response = handle_exception(engine_errors.QueueFull("2000 wait.", retry_after_s=12.4))
    assert read(response)["detail"] == "2000 wait."
    assert response["Retry-After"] == "12"


def test_retry_after_is_at_least_a_second() -> None:
    response = handle_exception(engine_errors.QueueFull(retry_after_s=0.01))
    assert response["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "code"), FRAMEWORK_ERRORS, ids=[repr(e[0])[:40] for e in FRAMEWORK_ERRORS]
)
def test_framework_error_has_the_code_of_its_status(
    error: Exception, status: int, code: str
) -> None:
    response = handle_exception(error)
    assert read(response)["code"] == code
    assert response.status_code == status


def test_throttled_client_gets_retry_after() -> None:
    assert handle_exception(exceptions.Throttled(7))["Retry-After"] == "7"


def test_unauthenticated_client_gets_www_authenticate() -> None:
    error = exceptions.NotAuthenticated()
    error.auth_header = "Session"
    assert handle_exception(error)["WWW-Authenticate"] == "Session"


class Inner(serializers.Serializer):
    tokens = serializers.IntegerField()


class Outer(serializers.Serializer):
    model = serializers.CharField()
    lane = Inner()


def validation_error(body: Any) -> exceptions.ValidationError:
    serializer = Outer(data=body)
    assert not serializer.is_valid()
    return exceptions.ValidationError(serializer.errors)


def test_invalid_field_is_named_in_the_detail_and_in_the_errors() -> None:
    document = read(handle_exception(validation_error({"lane": {"tokens": 1}})))
    assert document == {
        "detail": "model: This field is required.",
        "code": "invalid",
        "errors": {"model": ["This field is required."]},
    }


def test_invalid_nested_field_keeps_its_path() -> None:
    document = read(handle_exception(validation_error({"model": "x", "lane": {"tokens": "x"}})))
    assert document["detail"] == "lane.tokens: A valid integer is required."
    assert document["errors"] == {"lane": {"tokens": ["A valid integer is required."]}}


@pytest.mark.parametrize("body", [[], "x", 5, None])
def test_messages_about_the_whole_body_are_listed_under_body(body: Any) -> None:
    document = read(handle_exception(validation_error({"model": "x", "lane": body})))
    assert document["errors"]["lane"]
    assert list(read(handle_exception(validation_error(body)))["errors"]) == ["body"]


def test_validation_error_without_a_field_is_listed_under_body() -> None:
    document = read(handle_exception(exceptions.ValidationError("Nothing fits.")))
    assert document == {
        "detail": "body: Nothing fits.",
        "code": "invalid",
        "errors": {"body": ["Nothing fits."]},
    }


def test_unexpected_error_is_logged_and_not_disclosed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = handle_exception(KeyError("a-secret"))
    assert read(response)["code"] == "internal_error"
    assert response.status_code == 500
    assert "a-secret" not in response.content.decode()
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info


@pytest.mark.parametrize("error_class", [OperationalError, InterfaceError, InternalError])
def test_unreachable_database_is_503_and_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, error_class: type[Exception]
) -> None:
    response = handle_exception(error_class("connection refused\n\tIs the server running?"))
    assert read(response) == {
        "detail": "The gateway's database cannot be reached or takes no writes.",
        "code": "upstream_unavailable",
    }
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert record.getMessage().endswith(f"({error_class.__name__}: connection refused).")


def test_lone_surrogate_in_the_detail_is_replaced() -> None:
    assert read(json_error(400, detail="\ud83d is no field."))["detail"] == "? is no field."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 503, 504])
def test_every_status_has_a_default_detail(status: int) -> None:
    assert json_error(status).status_code == status
    read(json_error(status))
