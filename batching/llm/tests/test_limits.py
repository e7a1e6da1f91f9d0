"""What the messages, details and headers of a refusal mean."""

from datetime import UTC, datetime
from typing import Any

import pytest

from batching.engine.model import CallFailed, Remedy
from batching.llm.access import ModelAccess
from batching.llm.gemini import GeminiModel
from batching.llm.limits import (
    DAILY_QUOTA,
    NO_BILLING,
    NO_CREDITS,
    NO_QUOTA,
    SPENDING_CAP,
    find_project_state,
    find_wait_s,
)
from batching.llm.tests.recording import RecordingTransport
from batching.llm.tests.sdk_client import make_prompt
from batching.tests.faults import replies

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
QUOTA = "Quota exceeded for metric: generate_content_requests, limit: {}, model: m\nPlease retry."


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("Your project has exceeded its monthly spending cap. Go to AI Studio.", SPENDING_CAP),
        ("Monthly spend cap reached", SPENDING_CAP),
        ("Your prepayment credits are depleted. Please manage your billing.", NO_CREDITS),
        ("Insufficient Balance", NO_CREDITS),
        (QUOTA.format(20) + QUOTA.format(0), NO_QUOTA),
        (QUOTA.format("0.5"), None),
        (QUOTA.format(100), None),
        ("Requests per day: 250", DAILY_QUOTA),
        ("Resource has been exhausted (e.g. check quota).", None),
        ("The model is overloaded. Please try again later.", None),
    ],
)
def test_message_names_the_state_of_the_project(message: str, state: str | None) -> None:
    assert find_project_state(429, message, []) == state
    assert find_project_state(503, message, []) is None
    assert find_project_state(400, message, []) is None


@pytest.mark.parametrize(
    ("detail", "state"),
    [
        (
            {"violations": [{"quotaId": "RequestsPerDayPerProject", "quotaValue": "20"}]},
            DAILY_QUOTA,
        ),
        ({"violations": [{"quotaId": "RequestsPerDayPerProject", "quotaValue": "0"}]}, NO_QUOTA),
        ({"violations": [{"quotaId": "RequestsPerMinute", "quotaValue": "15"}]}, None),
        ({"metadata": {"quota_limit_value": "0"}}, NO_QUOTA),
        ({"violations": 3, "metadata": "x"}, None),
        ({"violations": [None, 7]}, None),
        ({"reason": "BILLING_DISABLED"}, NO_BILLING),
    ],
)
def test_details_name_the_state_of_the_project(detail: dict[str, Any], state: str | None) -> None:
    assert find_project_state(429, "", [detail]) == state


def test_status_402_is_a_state_of_the_project() -> None:
    assert find_project_state(402, "", []) == NO_BILLING


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        ("Please retry in 3.6s.", 3.6),
        ("Please retry in 859.84ms.", 0.85984),
        ("Please retry in 1m2.5s", 62.5),
        ("Your quota will reset after 5h59m59s.", 21_599),
        ("Please try again in 20 seconds.", 20),
        ("Too many requests; wait 2 minutes", 120),
        ("Rate limit: 10 s per request. Please retry.", None),
        ("Please retry. 5 models are busy.", None),
        ("Please retry in 0s.", None),
        ("wait " + "9" * 4000, None),
    ],
)
def test_wait_is_taken_from_the_message(message: str, wait_s: float | None) -> None:
    assert find_wait_s(message, [], {}, now=NOW) == (wait_s and pytest.approx(wait_s))


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7),
        ("0.5", 0.5),
        (" 859.84ms", 0.85984),
        ("Thu, 26 Nov 2026 12:00:30 GMT", 30),
        ("Thu, 26 Nov 2026 12:00:30 -0000", 30),
        ("Thu, 26 Nov 2026 11:59:30 GMT", None),
        ("0", None),
        ("-5", None),
        ("1e9", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 99 Nov 2026 12:00:30 GMT", None),
        ("", None),
    ],
)
def test_wait_is_taken_from_the_header(header: str, wait_s: float | None) -> None:
    found = find_wait_s("", [], {"retry-after": header}, now=NOW)
    assert found == (wait_s and pytest.approx(wait_s))


def test_date_of_the_wait_counts_from_the_date_of_the_reply() -> None:
    headers = {
        "retry-after": "Thu, 26 Nov 2026 13:00:30 GMT",
        "date": "Thu, 26 Nov 2026 13:00:00 GMT",
    }
    assert find_wait_s("", [], headers, now=NOW) == 30


def test_retry_info_goes_before_the_header_and_the_header_before_the_message() -> None:
    message, headers = "Please retry in 3s.", {"retry-after": "2"}
    delay = replies.retry_info("1m0.5s")
    assert find_wait_s(message, [delay], headers, now=NOW) == 60.5
    assert find_wait_s(message, [replies.retry_info("soon")], headers, now=NOW) == 2
    assert find_wait_s(message, [], {}, now=NOW) == 3


@pytest.mark.parametrize("code", [408, 429, 499, 500, 503, 529])
async def test_refusal_is_repeated_after_the_wait_in_its_header(code: int) -> None:
    fault = replies.status(code, headers={"Retry-After": "7"})
    access = ModelAccess("a-key", transport=RecordingTransport([fault]))
    model = GeminiModel(lambda: access)
    with pytest.raises(CallFailed) as failed:
        await anext(model.stream(make_prompt(), timeout_s=60))
    assert (failed.value.remedy, failed.value.retry_after_s) == (Remedy.TOGETHER, 7)
    assert failed.value.error.retry_after_s == 7
    await model.close()
