"""Reads stored rows and runs functions in parallel, for the tests of the settings."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection

from settings_app.models import GatewaySettings, Lane

KEY = "AIzaSyFirst-key-of-the-tests-wxyz"
OTHER_KEY = "AIzaSySecond-key-of-the-tests-1234"


def everything_stored() -> Any:
    return list(GatewaySettings.objects.values()), list(Lane.objects.values())


def search_database(text: str) -> list[str]:
    """Returns the tables that contain the text, as text or as bytes."""
    tables = connection.introspection.table_names()
    with connection.cursor() as cursor:
        found = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            if text in repr(cursor.fetchall()):
                found.append(table)
    return found


def run_at_once(*works: Callable[[], None]) -> None:
    """Runs each function in its own thread, all at the same time; raises the first exception."""
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
