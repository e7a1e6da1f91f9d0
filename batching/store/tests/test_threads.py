"""The threads that carry the ORM's work."""

import pytest
from django.db import connection

from batching.store.threads import DatabaseThreads
from chats.models import Chat

pytestmark = pytest.mark.django_db(transaction=True)


def count_noted() -> int:
    Chat.objects.exists()
    return len(connection.queries_log)


@pytest.fixture
async def threads():
    threads = DatabaseThreads()
    yield threads
    await threads.close()


async def test_statements_noted_under_debug_are_forgotten_after_each_call(threads, settings):
    settings.DEBUG = True
    noted = [await threads.run(count_noted) for _ in range(3)]
    assert noted[0] >= 1
    assert noted[1:] == [1, 1]


async def test_statements_of_a_call_that_fails_are_forgotten_too(threads, settings):
    def fail() -> None:
        count_noted()
        raise ValueError

    settings.DEBUG = True
    await threads.run(count_noted)
    with pytest.raises(ValueError):
        await threads.run(fail)
    assert await threads.run(count_noted) == 1
