"""Databases of the first schema migrate with their rows; processes refuse an older database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from django.db.migrations.recorder import MigrationRecorder

from llmbatch.migration_check import demand_migrations
from llmbatch.tests.fixtures.databases import create_empty_postgres, drop_postgres, migrate
from llmbatch.tests.fixtures.fleet import explain_missing

pytestmark = pytest.mark.django_db


def test_database_of_this_version_is_accepted():
    demand_migrations()


@pytest.mark.parametrize("command", ["serve", "batchworker"])
def test_older_database_is_refused_with_the_command_that_helps(settings, command):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    MigrationRecorder.Migration.objects.filter(app="batching", name__gte="0002").delete()
    with pytest.raises(CommandError, match=r"batching\.0002_plain_names.*\./gateway migrate"):
        call_command(command)


@pytest.mark.parametrize("command", ["serve", "batchworker"])
@pytest.mark.parametrize("app", ["batching", "chats", "settings_app"])
def test_newer_database_is_refused_in_a_sentence(settings, command, app):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    MigrationRecorder.Migration.objects.create(app=app, name="9999_of_tomorrow")
    with pytest.raises(CommandError, match=rf"older than the database.* {app}\.9999_of_tomorrow"):
        call_command(command)


def test_migrations_of_libraries_and_those_that_a_squash_replaced_are_accepted():
    for name in ("0001_initial", "0002_plain_names"):
        MigrationRecorder.Migration.objects.get_or_create(app="batching", name=name)
    MigrationRecorder.Migration.objects.create(app="axes", name="9999_of_a_library")
    demand_migrations()


def test_process_waits_for_an_unreachable_database(monkeypatch):
    def fail(recorder: MigrationRecorder) -> None:
        raise OperationalError

    monkeypatch.setattr(MigrationRecorder, "applied_migrations", fail)
    demand_migrations()


FIRST_SCHEMA = Path(__file__).parent / "fixtures"
QUERIES = {
    "SELECT count(*) FROM chats_chat WHERE rolled_up": 24,
    "SELECT count(*) FROM batching_batch WHERE rolled_up": 9,
    "SELECT count(*) FROM batching_modelcall WHERE rolled_up": 9,
    "SELECT sum(requests) FROM batching_dailystat": 24,
    "SELECT sum(fill_requests) FROM batching_dailystat": 24,
    "SELECT waiters FROM chats_chat WHERE request_id = 'waits' AND status = 'queued'": 2,
    "SELECT window_s FROM settings_app_lane WHERE priority = 2": 0.3,
    "SELECT model FROM settings_app_gatewaysettings": "gemini-3.7-flash",
    "SELECT name FROM settings_app_apikey": "shop",
    "SELECT count(*) FROM settings_app_apiclient": 2,
}


def test_sqlite_database_of_the_first_schema_keeps_its_rows(tmp_path):
    path = tmp_path / "gateway.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((FIRST_SCHEMA / "first_schema.sqlite.sql").read_text())
        fill = database.execute("SELECT sum(places) FROM batching_dailystat").fetchone()
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as database:
        assert {sql: database.execute(sql).fetchone()[0] for sql in QUERIES} == QUERIES
        sql = "SELECT sum(fill_capacity) FROM batching_dailystat"
        assert database.execute(sql).fetchone() == fill


@pytest.mark.skipif(bool(explain_missing()), reason=explain_missing())
def test_postgres_database_of_the_first_schema_keeps_its_rows():
    url = create_empty_postgres()
    try:
        with psycopg.connect(url) as database:
            database.execute((FIRST_SCHEMA / "first_schema.postgres.sql").read_text())
        migrate(url)
        with psycopg.connect(url) as database:
            assert {sql: database.execute(sql).fetchone()[0] for sql in QUERIES} == QUERIES
    finally:
        drop_postgres(url)
