"""Speaks to a running gateway as a program would."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from batching.rehearsal import Reply, Rule

LANES = {"HIGH": "high_priority", "MEDIUM": "medium_priority", "LOW": "low_priority"}


class Unreachable(Exception):
    """The gateway does not answer as one; the message says what to do."""


class RehearsalClient:
    """`told` hears of each reply as it comes."""

    def __init__(self, http: httpx2.AsyncClient, told: Callable[[Reply], None]) -> None:
        self._http = http
        self._told = told
        self._count = 0
        self.username = f"rehearsal-{secrets.token_hex(4)}"

    async def read_rules(self) -> dict[str, Rule]:
        document = await self._ask("GET", "/v1/settings")
        return {
            name: Rule(document[lane]["window_s"], document[lane]["max_batch"])
            for name, lane in LANES.items()
        }

    async def change_lane(self, priority: str, **values: Any) -> None:
        await self._ask("PATCH", "/v1/settings", {LANES[priority]: values})

    async def send(self, priorities: Sequence[str], *, pause_s: float = 0.0) -> list[Reply]:
        """One request for each; the next is begun `pause_s` after the one before."""
        tasks = []
        async with asyncio.TaskGroup() as group:
            for priority in priorities:
                tasks.append(group.create_task(self._send_one(priority)))
                if pause_s:
                    await asyncio.sleep(pause_s)
        return [task.result() for task in tasks]

    async def _send_one(self, priority: str) -> Reply:
        self._count += 1
        request_id = f"{priority.lower()} {self._count}"
        body = {
            "username": self.username,
            "request_id": request_id,
            "priority": priority,
            "prompt": f"This is test request {request_id}. Answer with one word.",
        }
        try:
            response = await self._http.post("/v1/query", json=body)
        except httpx2.HTTPError as error:
            reply = Reply(priority, request_id, 0, type(error).__name__)
        else:
            reply = _read_reply(priority, request_id, response)
        self._told(reply)
        return reply

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise Unreachable(
                f"No gateway answers at {self._http.base_url} ({type(error).__name__}):"
                " start one with `make run`, or name it with --url."
            ) from None
        document = _read_json(response)
        if response.status_code in (401, 403):
            raise Unreachable(
                f"The gateway refuses {method} {path} ({response.status_code}): give a staff key"
                " with --api-key or in LLMBATCH_API_KEY."
            )
        if response.status_code != 200 or "high_priority" not in document:
            detail = document.get("detail", "that is no answer of this gateway")
            raise Unreachable(f"{method} {path} gave {response.status_code}: {detail}.")
        return document


@asynccontextmanager
async def open_client(
    url: str, *, api_key: str, timeout_s: float, told: Callable[[Reply], None]
) -> AsyncIterator[RehearsalClient]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx2.Limits(max_connections=500)
    try:
        http = httpx2.AsyncClient(base_url=url, headers=headers, timeout=timeout_s, limits=limits)
    except (ValueError, httpx2.InvalidURL) as error:
        raise Unreachable(f"--url or --api-key cannot be used: {error}.") from None
    async with http:
        yield RehearsalClient(http, told)


def _read_reply(priority: str, request_id: str, response: httpx2.Response) -> Reply:
    document = _read_json(response)
    if response.status_code != 200:
        code = str(document.get("code", "no JSON"))
        return Reply(priority, request_id, response.status_code, code)
    try:
        return Reply(
            priority,
            request_id,
            200,
            answered_id=str(document["request_id"]),
            username=str(document["username"]),
            batch_id=int(document["batch_id"]),
            batch_size=int(document["batch_size"]),
            queue_ms=int(document["queue_ms"]),
            latency_ms=int(document["latency_ms"]),
        )
    except (KeyError, TypeError, ValueError):
        return Reply(priority, request_id, 502, "no answer of a gateway")


def _read_json(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
