"""A process refuses a database of an older version, and says what to do."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from batching.models import ModelCall
from batching.tests.rows import make_batch, make_call
from llmbatch.migration_check import demand_migrations

pytestmark = pytest.mark.django_db


def test_database_of_this_version_is_taken():
    demand_migrations()


@pytest.mark.parametrize("command", ["serve", "batchworker"])
def test_older_database_is_refused_with_the_way_out(settings, command):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    MigrationRecorder.Migration.objects.filter(app="batching", name__gte="0005").delete()
    with pytest.raises(CommandError, match=r"batching\.0005_call_priority.*manage\.py migrate"):
        call_command(command)


def test_database_that_is_away_is_waited_for(monkeypatch):
    def fail(recorder: MigrationRecorder) -> None:
        raise OperationalError

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", fail)
    demand_migrations()


def test_call_of_a_process_of_the_version_before_is_stored_during_an_upgrade():
    batch = make_batch()
    make_call(batch)
    columns = [field.column for field in ModelCall._meta.concrete_fields]
    kept = ", ".join(f'"{name}"' for name in columns if name not in ("id", "priority"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO batching_modelcall ({kept}) SELECT {kept} FROM batching_modelcall"
        )
    assert ModelCall.objects.filter(batch=batch).count() == 2
