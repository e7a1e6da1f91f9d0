"""The API's one error form."""

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
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from batching.engine import errors as engine_errors
from batching.engine.errors import GatewayError
from llmbatch.errors import handle_exception, is_api_path, json_error
from llmbatch.urls import urlpatterns as product_urls

ENGINE_ERRORS = {
    "RequestConflict": (409, "request_conflict", None),
    "Cancelled": (409, "cancelled", None),
    "AlreadyDispatched": (409, "already_dispatched", None),
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
    """The document, in the one form."""
    assert response["Content-Type"] == "application/json"
    document = json.loads(response.content)
    assert isinstance(document["detail"], str)
    assert document["detail"].strip()
    assert set(document) - {"errors"} == {"detail", "code"}
    return document


def test_every_error_of_the_engine_has_its_line_in_this_table() -> None:
    classes = {c.__name__ for c in vars(engine_errors).values() if isinstance(c, type)}
    assert classes - {"GatewayError", "ClassVar"} == set(ENGINE_ERRORS)


@pytest.mark.parametrize("name", ENGINE_ERRORS)
def test_error_of_the_engine_keeps_its_status_code_and_sentence(name: str) -> None:
    error: GatewayError = getattr(engine_errors, name)()
    response = handle_exception(error)
    assert read(response) == {"detail": type(error).__doc__.strip(), "code": error.code}
    told = response.status_code, error.code, response.headers.get("Retry-After")
    assert told == ENGINE_ERRORS[name]


def test_sentence_and_wait_of_one_error_come_before_its_classs() -> None:
    response = handle_exception(engine_errors.QueueFull("2000 wait.", retry_after_s=12.4))
    assert read(response)["detail"] == "2000 wait."
    assert response["Retry-After"] == "12"


def test_wait_is_at_least_a_second() -> None:
    response = handle_exception(engine_errors.QueueFull(retry_after_s=0.01))
    assert response["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "status", "code"), FRAMEWORK_ERRORS, ids=[repr(e[0])[:40] for e in FRAMEWORK_ERRORS]
)
def test_error_of_the_framework_gets_the_code_of_its_status(
    error: Exception, status: int, code: str
) -> None:
    response = handle_exception(error)
    assert read(response)["code"] == code
    assert response.status_code == status


def test_throttled_client_is_told_how_long_to_wait() -> None:
    assert handle_exception(exceptions.Throttled(7))["Retry-After"] == "7"


def test_nameless_client_is_told_how_to_log_in() -> None:
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


def test_invalid_field_is_named_in_the_sentence_and_in_the_errors() -> None:
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
def test_what_concerns_the_whole_body_stands_under_body(body: Any) -> None:
    document = read(handle_exception(validation_error({"model": "x", "lane": body})))
    assert document["errors"]["lane"]
    assert list(read(handle_exception(validation_error(body)))["errors"]) == ["body"]


def test_validation_error_of_one_sentence_stands_under_body() -> None:
    document = read(handle_exception(exceptions.ValidationError("Nothing fits.")))
    assert document == {
        "detail": "body: Nothing fits.",
        "code": "invalid",
        "errors": {"body": ["Nothing fits."]},
    }


def test_unforeseen_error_is_logged_and_its_words_kept_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = handle_exception(KeyError("a-secret"))
    assert read(response)["code"] == "internal_error"
    assert response.status_code == 500
    assert "a-secret" not in response.content.decode()
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info


@pytest.mark.parametrize("away", [OperationalError, InterfaceError])
def test_database_that_is_away_is_503_and_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture, away: type[Exception]
) -> None:
    response = handle_exception(away("connection refused\n\tIs the server running?"))
    assert read(response) == {
        "detail": "The gateway's database cannot be reached.",
        "code": "upstream_unavailable",
    }
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert record.getMessage().endswith(f"({away.__name__}: connection refused).")


def test_lone_surrogate_in_a_sentence_does_not_break_the_answer() -> None:
    assert read(json_error(400, detail="\ud83d is no field."))["detail"] == "? is no field."


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 429, 500, 502, 503, 504])
def test_every_status_has_a_sentence_of_its_own_accord(status: int) -> None:
    assert json_error(status).status_code == status
    read(json_error(status))


@pytest.mark.parametrize("api_path", ["/v1", "/v1/", "/v1/query", "/health", "/health/ready"])
def test_paths_of_the_api_are_known(api_path: str) -> None:
    assert is_api_path(api_path)


@pytest.mark.parametrize("page", ["/", "/admin/", "/v10", "/healthy", "/static/v1/x"])
def test_pages_are_none_of_the_api(page: str) -> None:
    assert not is_api_path(page)


def fail(request: HttpRequest) -> HttpResponse:
    raise KeyError("a-secret")


class EchoView(APIView):
    permission_classes = ()

    def post(self, request: Request) -> HttpResponse:
        return HttpResponse(str(request.data))


urlpatterns = [path("v1/fails", fail), path("v1/echo", EchoView.as_view()), *product_urls]


@pytest.fixture
def _test_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.API_ACCESS = "open"


@pytest.mark.usefixtures("_test_urls")
@pytest.mark.parametrize("debug", [False, True])
class TestOverHttp:
    @pytest.fixture(autouse=True)
    def _debug(self, settings: Any, debug: bool) -> None:
        settings.DEBUG = debug

    def test_failing_plain_view_answers_in_the_one_form(self) -> None:
        response = Client(raise_request_exception=False).get("/v1/fails")
        assert read(response)["code"] == "internal_error"
        assert "a-secret" not in response.content.decode()
        assert response.status_code == 500

    @pytest.mark.parametrize("missing", ["/v1", "/v1/", "/v1/nothing", "/health/x", "/v1/%00"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
    def test_unknown_path_answers_in_the_one_form(
        self, client: Client, missing: str, method: str
    ) -> None:
        response = client.generic(method, missing)
        assert read(response)["code"] == "not_found"
        assert response.status_code == 404

    def test_unknown_host_answers_in_the_one_form(self, client: Client) -> None:
        response = client.get("/v1/nothing", headers={"host": "evil.example"})
        assert read(response)["code"] == "invalid"
        assert response.status_code == 400

    def test_unknown_page_stays_a_page(self, client: Client) -> None:
        assert client.get("/nothing")["Content-Type"].startswith("text/html")

    @pytest.mark.parametrize("body", [b"[" * 999_999, b"[" * 100_000 + b"]" * 100_000])
    def test_brackets_without_end_are_400(self, client: Client, body: bytes) -> None:
        response = client.post("/v1/echo", body, "application/json")
        assert read(response)["code"] == "invalid"
        assert response.status_code == 400

    async def test_async_handler_answers_in_the_one_form_too(
        self, async_client: AsyncClient
    ) -> None:
        response = await async_client.get("/v1/nothing")
        assert read(response)["code"] == "not_found"
