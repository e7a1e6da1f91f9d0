"""Every JSON log line names its requests, its batch and its HTTP exchange."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batching.engine.items import QueuedItem
from batching.engine.lanes import Priority
from batching.messages import (
    accepted_message,
    dispatched_message,
    finished_message,
    parse_accepted,
)
from batching.sockets.access import has_listed_origin, parse_visitor
from batching.telemetry.log_context import begin_exchange, bind, trace_fields
from batching.tests.harness import Harness
from chats.models import Chat
from llmbatch.logs import JsonFormatter, UnlistedHosts, logging_config
from llmbatch.middleware.request_id import MAX_LENGTH, choose_request_id

PATHS = [
    ("GET", "/health", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/health/nothing", 404),
    ("GET", "/metrics", 200),
    ("GET", "/v1/chat", 200),
    ("GET", "/v1/settings", 200),
    ("GET", "/v1/analytics", 200),
    ("GET", "/v1/query/nothing", 404),
    ("GET", "/v1/query", 405),
    ("GET", "/v1/nothing", 404),
    ("POST", "/v1/query", 400),
    ("PUT", "/v1/settings", 200),
    ("OPTIONS", "/v1/query", 204),
]
# A batch leaves when it is full, however long its requests take to arrive.
FULL_OF_SIX = pytest.mark.parametrize("lanes", [{"window_s": 300.0, "max_batch": 6}])
FULL_OF_THREE = pytest.mark.parametrize("lanes", [{"window_s": 300.0, "max_batch": 3}])
ODD = 'odd "id"\n\x1b[2J\u202eß'


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    def of(self, action: str) -> list[dict[str, Any]]:
        return [line for line in self.documents if line.get("action") == action]


@pytest.fixture
def lines() -> Iterator[_Lines]:
    handler = _Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@FULL_OF_SIX
async def test_every_step_names_its_requests_and_its_batch(harness: Harness, lines: _Lines) -> None:
    names = [ODD, *(f"id {index}" for index in range(5))]
    replies = await asyncio.gather(*(harness.ask(name, request_id=name) for name in names))
    await harness.settle()
    batch_id = replies[0].json()["batch_id"]
    steps = ["batch_start", "call_start", "call_end", "batch_complete"]
    for step in steps:
        (line,) = lines.of(step)
        assert line["batch_id"] == batch_id, step
        assert sorted(line["request_ids"]) == sorted(names), step
    (dispatched,) = lines.of("dispatch")
    assert sorted(dispatched["request_ids"]) == sorted(names)
    enqueued = [pair for line in lines.of("enqueue") for pair in line["request_ids"]]
    assert sorted(enqueued) == sorted(names)
    assert all(text.isascii() and "\n" not in text and "\x1b" not in text for text in lines.texts)


@FULL_OF_THREE
async def test_lines_of_a_retry_name_only_its_request(harness: Harness, lines: _Lines) -> None:
    prompts = {"a": "one", "b": "[[fault:missing:1]] two", "c": "three"}
    await asyncio.gather(*(harness.ask(prompt, request_id=n) for n, prompt in prompts.items()))
    await harness.settle()
    for step in ("call_start", "call_end"):
        first, again = lines.of(step)
        assert sorted(first["request_ids"]) == ["a", "b", "c"]
        assert again["request_ids"] == ["b"], step
        assert first["batch_id"] == again["batch_id"]


async def test_any_line_that_a_batch_writes_names_the_batch(
    harness: Harness, lines: _Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*args: Any) -> None:
        logging.getLogger("batching.elsewhere").warning("Something odd.")
        raise RuntimeError("broken")

    monkeypatch.setattr(harness.runtime.consumer.recorder, "end_call", break_off)
    await harness.ask(request_id="mine", timeout_s=6)
    chat = await Chat.objects.aget()
    named = [line for line in lines.documents if line["message"] == "Something odd."]
    named += [line for line in lines.documents if "failed inside" in line["message"]]
    assert len(named) >= 2
    for line in named:
        assert (line["request_ids"], line["batch_id"]) == (["mine"], chat.batch_id)


async def test_x_request_id_of_the_client_is_returned_and_logged(
    harness: Harness, lines: _Lines
) -> None:
    headers = {"X-Request-Id": "proxy 17"}
    body = {"username": "ann", "prompt": "Why?", "priority": "HIGH"}
    reply = await harness.client.post("/v1/query", json=body, headers=headers)
    assert reply.headers.get_list("X-Request-Id") == ["proxy 17"]
    request_id = reply.json()["request_id"]
    assert request_id != "proxy 17", "the header does not set the request_id"
    (line,) = lines.of("enqueue")
    assert (line["request_ids"], line["x_request_ids"]) == ([request_id], ["proxy 17"])
    again = await harness.client.post("/v1/query", json=body, headers=headers)
    assert again.json()["request_id"] != request_id, "the same header does not replay an answer"


async def test_every_path_returns_the_x_request_id(harness: Harness) -> None:
    for method, path, status in PATHS:
        ask = partial(harness.client.request, method, path)
        reply = await ask(headers={"x-request-id": "abc"})
        named = reply.headers.get_list("X-Request-Id")
        assert (reply.status_code, named) == (status, ["abc"]), path
        new = [(await ask()).headers["X-Request-Id"] for _ in range(2)]
        assert new[0] != new[1]
        assert [len(name) for name in new] == [32, 32]


async def test_lost_message_names_its_chats(harness: Harness, lines: _Lines) -> None:
    item = QueuedItem(7, Priority.HIGH, 0.0, 0.2, 30.0, 0.5, request_id="mine")
    accepted = accepted_message([item], process="here", clock=0.0)
    messages = [accepted, dispatched_message([7]), finished_message({7: {"error": {}}})]
    for message in messages:
        await harness.runtime.send("no channel!", message)
    lost = [line["chat_ids"] for line in lines.documents if "was lost" in line["message"]]
    assert lost == [[7]] * len(messages)


def test_announced_item_is_parsed_as_it_was_sent() -> None:
    item = QueuedItem(
        7, Priority.HIGH, 0.0, 0.2, 30.0, 0.5, username="ann", request_id="mine", generation=9
    )
    message = accepted_message([item], process="here", clock=0.0)
    assert parse_accepted(message, process="here", clock=0.0) == [item]
    assert parse_accepted(message, process="there", clock=5.0) == [
        replace(item, accepted=5.0, due=5.2, deadline=35.0, target=5.5)
    ]


async def test_refusal_of_a_too_large_body_returns_the_x_request_id(harness: Harness) -> None:
    headers = {"X-Request-Id": "large"}
    reply = await harness.client.post("/v1/query", content=b" " * 1_000_001, headers=headers)
    assert (reply.status_code, reply.headers["X-Request-Id"]) == (413, "large")


@pytest.mark.parametrize("path", ["/v1/query", "/v1/analytics"])
async def test_line_of_a_500_carries_the_x_request_id(
    harness: Harness, lines: _Lines, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(harness.runtime.gateway, "submit", fail)
    monkeypatch.setattr("batching.api.views.summarize_now", fail)
    headers = {"X-Request-Id": "abc"}
    if path == "/v1/query":
        body = {"username": "ann", "prompt": "Why?"}
        reply = await harness.client.post(path, json=body, headers=headers)
    else:
        reply = await harness.client.get(path, headers=headers)
    assert (reply.status_code, reply.headers["X-Request-Id"]) == (500, "abc")
    assert set(reply.json()) == {"detail", "code"}
    failed = [line for line in lines.documents if "broken" in line.get("exception", "")]
    assert failed
    assert {line["x_request_id"] for line in failed} == {"abc"}


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"abc-1", True),
        (b"with space and 'quotes\"", True),
        (b"x" * MAX_LENGTH, True),
        (b"x" * (MAX_LENGTH + 1), False),
        (b"", False),
        (b"   ", False),
        (b"tab\there", False),
        (b"line\r\nSet-Cookie: a=b", False),
        (b"\x1b[2J", False),
        ("ünïcode".encode(), False),
        (b"caf\xe9", False),
        (b"\x7f", False),
    ],
)
def test_only_a_harmless_x_request_id_is_accepted(sent: bytes, taken: bool) -> None:
    assert (choose_request_id([(b"x-request-id", sent)]) == sent.decode("latin-1")) is taken


def test_first_of_two_x_request_ids_counts() -> None:
    assert choose_request_id([(b"X-Request-ID", b"one"), (b"x-request-id", b"two")]) == "one"


async def test_fields_of_an_exchange_end_with_it_and_do_not_reach_background_tasks(
    harness: Harness, lines: _Lines
) -> None:
    before = dict(trace_fields())
    with begin_exchange("one"):
        bind(request_ids=["r"])
        assert dict(trace_fields()) == {"x_request_id": "one", "request_ids": ["r"]}
    assert dict(trace_fields()) == before
    await harness.ask()
    await harness.settle()
    assert [line for line in lines.documents if "x_request_id" in line] == []


def test_extra_fields_win_over_those_of_the_task() -> None:
    record = logging.makeLogRecord({"msg": "m", "request_ids": ["its own"]})
    with begin_exchange("one"):
        bind(request_ids=["all", "of", "them"])
        line = json.loads(JsonFormatter().format(record))
    assert (line["request_ids"], line["x_request_id"]) == (["its own"], "one")


@pytest.fixture
def host_lines() -> Iterator[_Lines]:
    """The lines about unlisted hosts, of a filter that has named none yet."""
    logger, handler = logging.getLogger("django.security.DisallowedHost"), _Lines()
    old, logger.filters = logger.filters, [UnlistedHosts()]
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.filters = old


async def test_unlisted_host_is_named_once_with_the_variable(
    harness: Harness, host_lines: _Lines
) -> None:
    for path in ("/v1/query", "/v1/chat", "/dashboard", "/v1/query"):
        for host in ("new.example", "new.example:8000"):
            reply = await harness.client.get(path, headers={"Host": host})
            assert reply.status_code == 400
    visitor = parse_visitor(
        {"type": "http", "path": "/", "headers": [(b"host", b"b c")]}, staff=False
    )
    assert not has_listed_origin(visitor)
    named = [line["message"] for line in host_lines.documents]
    assert [message.partition(" get ")[0] for message in named] == [
        "Requests for the host 'new.example'",
        "Requests for the host 'b c'",
    ]
    assert all("DJANGO_ALLOWED_HOSTS" in message for message in named)
    assert not any("exception" in line or "request" in line for line in host_lines.documents)


async def test_number_of_named_hosts_is_bounded(harness: Harness, host_lines: _Lines) -> None:
    for number in range(UnlistedHosts.MAX_NAMED + 5):
        await harness.client.get("/v1/query", headers={"Host": f"{number}.example"})
    assert len(host_lines.texts) == UnlistedHosts.MAX_NAMED


def test_filter_of_unlisted_hosts_is_configured() -> None:
    config = logging_config(directory=Path("x"), line_format="text", to_files=False)
    assert config["loggers"]["django.security.DisallowedHost"]["filters"] == ["unlisted_hosts"]
    assert config["filters"]["unlisted_hosts"] == {"()": "llmbatch.logs.UnlistedHosts"}
