"""Times and queries of pages over a small history and over one a hundred times as large."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from bench.history import fill_history
from bench.processes import POSTGRES, ROOT, postgres_database
from bench.tables import milliseconds, print_note, print_table

SMALL, LARGE = 10_000, 1_000_000
ROUNDS, REQUESTS = 3, 15
EXPORT = "export as CSV, the first 200"
CALLS = "/admin/batching/modelcall/"
PAGES = {
    "/v1/analytics": "/v1/analytics",
    "/dashboard": "/dashboard?days=30",
    "/batches": "/batches",
    "/batches, HIGH of a week": "/batches?priority=HIGH&from={week}",
    "/batches/1000": "/batches/1000",
    "/chats": "/chats",
    "/chats, middle": "/chats?before={middle}",
    "/chats, HIGH": "/chats?priority=HIGH",
    "/chats, any error": "/chats?error_code=any",
    "/chats, an error of HIGH": "/chats?error_code=blocked&priority=HIGH",
    "/chats, a day": "/chats?from={day}&to={day_after}",
    "/chats, failed, all days": "/chats?status=failed&from=2000-01-01",
    "/chats, answered, all days": "/chats?status=done&from=2000-01-01",
    "/chats, a frequent word": "/chats?search=sky",
    "/chats, a word that is not there": "/chats?search=nothinglikethis",
    "/v1/chat, newest": "/v1/chat",
    "/v1/chat, middle": "/v1/chat?before={middle}",
    "/v1/chat, oldest": "/v1/chat?before=150",
    "/v1/chat, one username": "/v1/chat?username=rare",
    "/v1/chat, failed": "/v1/chat?status=failed",
    "/admin/": "/admin/",
    "admin chats, first": "/admin/chats/chat/",
    "admin chats, page 150": "/admin/chats/chat/?p=150",
    "admin chats, below the middle": "/admin/chats/chat/?id__lt={middle}",
    "admin chats, all days": "/admin/chats/chat/?received_at__gte=2000-01-01T00:00:00Z",
    "admin chats, failed": "/admin/chats/chat/?status__exact=failed",
    "admin chats, search": "/admin/chats/chat/?q=r777",
    "admin batches, first": "/admin/batching/batch/",
    "admin batches, HIGH": "/admin/batching/batch/?priority__exact=2",
    "admin model calls, first": CALLS,
    "admin model calls, HIGH": f"{CALLS}?priority__exact=2",
    "admin calls, failed of HIGH": f"{CALLS}?status__exact=failed&priority__exact=2",
    "admin roll-up": "/admin/batching/dailystat/",
    "a batch's page": "/admin/batching/batch/1000/change/",
}


def measure_pages() -> None:
    _measure_database("SQLite", _sqlite_database)
    try:
        with postgres_database(POSTGRES):
            pass
    except psycopg.Error:
        print_note(f"No Postgres at {POSTGRES}: only SQLite was measured.")
    else:
        _measure_database("Postgres", partial(postgres_database, POSTGRES))


def _measure_database(name: str, database) -> None:
    with database() as small, database() as large:
        filled_s = [_run_self(url, "fill", rows) for url, rows in ((small, SMALL), (large, LARGE))]
        rounds = [
            (_run_self(small, "measure", SMALL), _run_self(large, "measure", LARGE))
            for _ in range(ROUNDS)
        ]
    print_table(
        f"Pages at {SMALL:,} and {LARGE:,} chats: {name}",
        ["page", f"{SMALL:,}", f"{LARGE:,}", "ratio", "queries"],
        [_describe(page, rounds) for page in (*PAGES, EXPORT)],
    )
    print_note(
        f"Medians of {REQUESTS} requests, the lower of {ROUNDS} rounds that alternate between the"
        " histories; inside one process through Django's test client, without the web server."
        f" The large history was filled in {filled_s[1]:.0f} s."
    )


def _describe(page: str, rounds: list[tuple[dict, dict]]) -> list[object]:
    small, large = (min(pair[side][page]["seconds"] for pair in rounds) for side in (0, 1))
    queries = sorted({pair[side][page]["queries"] for pair in rounds for side in (0, 1)})
    counts = " or ".join(str(count) for count in queries)
    return [page, milliseconds(small), milliseconds(large), f"{large / small:.2f}", counts]


@contextmanager
def _sqlite_database() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/bench.sqlite3"


def _run_self(url: str, task: str, rows: int):
    """Runs `task` in a process whose settings name the database. Returns its printed result."""
    with tempfile.TemporaryDirectory() as logs:
        variables = {"DATABASE_URL": url, "LOG_DIR": logs, "REDIS_URL": "", "API_ACCESS": "open"}
        variables |= {"DJANGO_DEBUG": "false", "TLS_PROXY": "false", "DJANGO_ALLOWED_HOSTS": ""}
        done = subprocess.run(
            [sys.executable, "-m", "bench.pages", task, str(rows)],
            cwd=ROOT,
            env=os.environ | variables | {"DJANGO_SETTINGS_MODULE": "llmbatch.settings"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(rows: int) -> dict[str, dict]:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME="localhost")
    staff, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client.force_login(staff)
    values = _describe_days() | {"middle": rows // 2}
    return {page: _time_page(client, path.format(**values)) for page, path in PAGES.items()} | {
        EXPORT: asyncio.run(_time_export())
    }


def _describe_days() -> dict[str, str]:
    today = datetime.now(UTC).date()
    back = {"week": 7, "day": 5, "day_after": 4}
    return {name: f"{today - timedelta(days=days)}" for name, days in back.items()}


async def _time_export() -> dict:
    """Times the first part of the file: the header and 200 chats."""
    from chats.export import stream_chats
    from chats.selectors import ChatFilter

    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        parts = stream_chats(ChatFilter(), "csv")
        await anext(parts)
        seconds.append(time.perf_counter() - began)
        await parts.aclose()
    return {"seconds": statistics.median(seconds), "queries": 2}


def _time_page(client, path: str) -> dict:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    for _ in range(3):
        response = client.get(path)
        assert response.status_code == 200, (path, response.status_code)
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    queries = len(captured)  # Read now, because the next request empties the log.
    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        client.get(path)
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds), "queries": queries}


if __name__ == "__main__":
    import django

    django.setup()
    task = {"fill": fill_history, "measure": _measure}[sys.argv[1]]
    print(json.dumps(task(int(sys.argv[2]))))
