"""The threads in which ORM functions run."""

import pytest
from django.db import connection

from batching.store.threads import DatabaseThreads
from chats.models import Chat

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
