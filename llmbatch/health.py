"""/health reports that the process runs; /health/ready checks every part it depends on."""

import asyncio
import contextvars
import logging
import shutil
from collections.abc import Awaitable, Iterable
from pathlib import Path

from django.db import connection, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse

from batching.api.base import AsyncAPIView, respond_json
from batching.llm.access import ModelState, model_state
from batching.messages import Subscription
from batching.process.runtime import get_runtime
from batching.store.threads import DatabaseFull, DatabaseThreads, explain_outage
from llmbatch.logs import list_log_files
from settings_app.models import GatewaySettings
from settings_app.snapshot import current_snapshot

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 2.0
MIN_FREE_BYTES = 10_000_000


class _Problem(Exception):
    """Its text says what is wrong with a part."""


class HealthView(AsyncAPIView):
    open_to_all = True

    async def get(self, request: HttpRequest) -> HttpResponse:
        return respond_json({"status": "ok"})


class ReadyView(AsyncAPIView):
    open_to_all = True

    async def get(self, request: HttpRequest) -> HttpResponse:
        parts = await check_parts()
        failing = {name: reason for name, reason in parts.items() if reason}
        document = {
            "status": "unavailable" if failing else "ok",
            "checks": {name: reason or "ok" for name, reason in parts.items()},
        }
        if not failing:
            return respond_json(document)
        document["detail"] = "; ".join(f"{name}: {reason}" for name, reason in failing.items())
        document["code"] = "not_ready"
        response = respond_json(document, status=503)
        response["Retry-After"] = "1"
        return response


# The check that runs.
_check: asyncio.Task[dict[str, str]] | None = None


async def check_parts() -> dict[str, str]:
    """Returns the problem of each part as text, "" for a part that works.

    Probes that come meanwhile share one check: anybody may send any number of them, and each check
    writes to the database between the writes of requests.
    """
    global _check
    if _check is None or _check.done() or _check.get_loop() is not asyncio.get_running_loop():
        _check = asyncio.create_task(
            _check_parts(), name="check readiness", context=contextvars.Context()
        )
    return await asyncio.shield(_check)


async def _check_parts() -> dict[str, str]:
    try:
        runtime = await get_runtime()
    except Exception as error:
        logger.exception("The batch consumer could not be started.")
        return {"batch_consumer": f"it could not be started ({type(error).__name__})"}
    return {
        "database": await _find_problem(_check_database(runtime.database)),
        "channel_layer": await _find_problem(_ping(runtime.subscriptions)),
        "batch_consumer": runtime.describe_trouble(),
        "model_key": _describe_key_problem(),
        "log_files": await _find_problem(asyncio.to_thread(_check_log_files)),
    }


async def _find_problem(check: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check
    except _Problem as problem:
        return str(problem)
    except Exception as error:
        full = isinstance(explain_outage(error), DatabaseFull)
        return "the disk is full" if full else type(error).__name__
    return ""


async def _check_database(threads: DatabaseThreads) -> None:
    await threads.run(_write_database)
    if connection.vendor == "sqlite":
        await asyncio.to_thread(_demand_space, Path(connection.settings_dict["NAME"]).parent)


def _check_log_files() -> None:
    for file in list_log_files():
        if file.problem:
            raise _Problem(file.problem)
        _demand_space(Path(file.baseFilename).parent)


def _demand_space(folder: Path) -> None:
    """A write that fits into an existing page succeeds on a full disk, so the space is read."""
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise _Problem(f"the disk is full ({free / 1e6:.1f} MB are free)")


def _write_database() -> None:
    """Writes a row's own value, because a database may answer queries and refuse writes.

    A row that another transaction has locked is left alone: the database takes writes.
    """
    rows = GatewaySettings.objects.filter(pk=1)
    with transaction.atomic():
        if rows.select_for_update(skip_locked=True).values_list("pk"):
            rows.update(version=F("version"))


async def _ping(subscriptions: Iterable[Subscription]) -> None:
    await asyncio.gather(*(subscription.ping() for subscription in subscriptions))


def _describe_key_problem() -> str:
    if model_state() is ModelState.NO_API_KEY:
        return current_snapshot().key_problem or "no model key is set"
    return ""
