"""The threads in which ORM functions run."""

import pytest
from django.db import OperationalError, connection

from batching.store import threads as threads_module
from batching.store.threads import DatabaseThreads
from chats.models import Chat
from settings_app.models import GatewaySettings

pytestmark = pytest.mark.django_db(transaction=True)


def count_recorded() -> int:
    Chat.objects.exists()
    return len(connection.queries_log)


@pytest.fixture
async def threads():
    threads = DatabaseThreads()
    yield threads
    await threads.close()


async def test_statements_recorded_under_debug_are_cleared_after_each_call(threads, settings):
    settings.DEBUG = True
    recorded = [await threads.run(count_recorded) for _ in range(3)]
    assert recorded[0] >= 1
    assert recorded[1:] == [1, 1]


async def test_statements_of_a_call_that_fails_are_cleared_too(threads, settings):
    def fail() -> None:
        count_recorded()
        raise ValueError

    settings.DEBUG = True
    await threads.run(count_recorded)
    with pytest.raises(ValueError):
        await threads.run(fail)
    assert await threads.run(count_recorded) == 1


def write() -> int:
    return GatewaySettings.objects.update(store_prompts=True)


def refuse_writes() -> None:
    """Makes this session read-only, as that of a file that was read-only when it was opened."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")


async def test_session_that_stays_read_only_is_replaced(
    threads: DatabaseThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the tests run on another database than SQLite")
    monkeypatch.setattr(threads_module, "RENEW_S", 0.0)
    await threads.run(refuse_writes)
    with pytest.raises(OperationalError, match="readonly"):
        await threads.run(write)
    assert await threads.run(write) == 1


async def test_sessions_are_kept_without_such_an_error(
    threads: DatabaseThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_session() -> int:
        connection.ensure_connection()
        return id(connection.connection)

    monkeypatch.setattr(threads_module, "RENEW_S", 0.0)
    assert await threads.run(find_session) == await threads.run(find_session)


async def test_broken_session_is_closed_even_if_the_function_returns_the_error(
    threads: DatabaseThreads,
) -> None:
    def break_session() -> Exception | None:
        connection.connection.close()
        try:
            write()
        except Exception as error:
            return error
        return None

    await threads.run(write)
    assert await threads.run(break_session) is not None
    assert await threads.run(write) == 1
