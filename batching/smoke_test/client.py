"""Sends requests and settings to a running gateway over HTTP."""

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx2

from batching.smoke_test.rules import Answer, Reply, Request, Rule

LANES = {"HIGH": "high_priority", "MEDIUM": "medium_priority", "LOW": "low_priority"}
REFUSALS = (401, 403, 503)
SETTINGS_TIMEOUT_S = 10.0
NO_PROXY = {"all://127.0.0.1": None, "all://localhost": None}


class Unreachable(Exception):
    """No usable gateway answers; the message says what to do."""


class Refused(Unreachable):
    """The gateway needs an API key, or one with more rights."""


class SmokeTestClient:
    """Calls `on_reply` with each reply as it arrives."""

    def __init__(self, http: httpx2.AsyncClient, name: str) -> None:
        self._http = http
        self._count = 0
        self.on_reply: Callable[[Reply], object] | None = None
        self.username = f"{name}-{secrets.token_hex(4)}"

    async def read_rules(self) -> dict[str, Rule]:
        return parse_rules(await self._ask("GET"))

    async def change_lane(self, priority: str, **values: Any) -> dict[str, Rule]:
        """Returns the rules of all lanes after the change."""
        return parse_rules(await self._ask("PATCH", {LANES[priority]: values}))

    async def send(self, priorities: Sequence[str], *, pause_s: float = 0.0) -> list[Reply]:
        """Sends one request for each priority, with pauses of `pause_s` between the starts.

        Raises Unreachable if the gateway refuses all of them for the same reason.
        """
        tasks = []
        async with asyncio.TaskGroup() as group:
            for priority in priorities:
                tasks.append(group.create_task(self._send_one(priority)))
                if pause_s:
                    await asyncio.sleep(pause_s)
        replies = [task.result() for task in tasks]
        first = replies[0]
        if first.status in REFUSALS and {reply.code for reply in replies} == {first.code}:
            raise Unreachable(
                f"The gateway refuses every request ({first.status} {first.code}): {first.detail}"
            )
        return replies

    async def _send_one(self, priority: str) -> Reply:
        self._count += 1
        word = secrets.token_hex(6)
        request = Request(priority, f"{priority.lower()} {self._count}", self.username, word)
        body = {
            "username": request.username,
            "request_id": request.id,
            "priority": priority,
            "prompt": f"Repeat this word and say nothing else: {word}",
        }
        try:
            response = await self._http.post("/v1/query", json=body)
        except httpx2.HTTPError as error:
            reply = Reply(request, 0, code=type(error).__name__)
        else:
            reply = parse_reply(request, response.status_code, _parse_json(response))
        if self.on_reply is not None:
            self.on_reply(reply)
        return reply

    async def _ask(self, method: str, body: Any = None) -> Mapping[str, Any]:
        """Reads or changes the settings."""
        url, what = str(self._http.base_url).rstrip("/"), f"{method} /v1/settings"
        try:
            response = await self._http.request(
                method, "/v1/settings", json=body, timeout=SETTINGS_TIMEOUT_S
            )
        except httpx2.HTTPError as error:
            raise Unreachable(
                f"No gateway answers at {url} ({type(error).__name__}): start one with `make run`,"
                " or pass its URL with --url."
            ) from None
        document = _parse_json(response)
        if response.status_code in (401, 403):
            raise Refused(
                f"The gateway refuses {what} ({response.status_code}): pass a staff key"
                " with --api-key or in LLMBATCH_API_KEY."
            )
        if response.status_code == 200 and document:
            return document
        if target := response.headers.get("location"):
            raise Unreachable(f"{url} redirects to {target}: pass that URL with --url.")
        detail = document.get("detail") or "no gateway answers there; pass another URL with --url."
        raise Unreachable(f"{what} at {url} returned {response.status_code}: {detail}")


def open_http(url: str, *, api_key: str, timeout_s: float) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        return httpx2.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, mounts=NO_PROXY)
    except (ValueError, httpx2.InvalidURL) as error:
        raise Unreachable(f"--url or --api-key cannot be used: {error}.") from None


def parse_rules(document: Mapping[str, Any]) -> dict[str, Rule]:
    try:
        return {
            priority: Rule(
                float(document[lane]["window_s"]),
                int(document[lane]["max_batch"]),
                int(document[lane]["tokens"]),
                str(document[lane]["batch_scope"]),
            )
            for priority, lane in LANES.items()
        }
    except (KeyError, TypeError, ValueError):
        raise Unreachable(
            "The answer to GET /v1/settings is not a gateway's: pass another URL with --url."
        ) from None


def parse_reply(request: Request, status: int, document: Mapping[str, Any]) -> Reply:
    if status != 200:
        code = str(document.get("code", "without JSON"))
        return Reply(request, status, code=code, detail=str(document.get("detail", "")))
    try:
        answer = Answer(
            request_id=str(document["request_id"]),
            username=str(document["username"]),
            text=str(document["text"]),
            batch_id=int(document["batch_id"]),
            batch_size=int(document["batch_size"]),
            accepted=datetime.fromisoformat(document["created_at"]).timestamp(),
            queue_ms=int(document["queue_ms"]),
            latency_ms=int(document["latency_ms"]),
        )
    except (KeyError, TypeError, ValueError):
        return Reply(request, status, code="unexpected JSON")
    return Reply(request, status, answer)


def _parse_json(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
