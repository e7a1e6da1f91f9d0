"""Checks at start that database and code have the same migrations; else requests would fail."""

from importlib import import_module
from pkgutil import iter_modules

from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

OWN_APPS = ("settings_app", "chats", "batching")


def demand_migrations() -> None:
    """Raises CommandError if the database lacks a migration of the project's apps, or has another.

    An unreachable database raises nothing: the process waits for it.
    """
    try:
        applied = set(MigrationRecorder(connection).applied_migrations())
    except OperationalError:
        return
    finally:
        connection.close()
    migrations = [(app, name) for app in OWN_APPS for name in _list_migrations(app)]
    if missing := [key for key in migrations if key not in applied]:
        raise CommandError(
            f"The database lacks migrations, the first is {'.'.join(missing[0])}:"
            " run `./gateway migrate`, then start again."
        )
    known = {*migrations, *(old for key in migrations for old in _list_replaced(*key))}
    if unknown := sorted(key for key in applied - known if key[0] in OWN_APPS):
        raise CommandError(
            f"This code is older than the database, which has the migration {'.'.join(unknown[0])}:"
            " start the newer code, or restore a backup of the time before it."
        )


def _list_migrations(app: str) -> list[str]:
    package = import_module(f"{app}.migrations")
    return sorted(module.name for module in iter_modules(package.__path__))


def _list_replaced(app: str, name: str) -> list[tuple[str, str]]:
    """The migrations that a squashed one replaces; a database may name them, too."""
    return list(import_module(f"{app}.migrations.{name}").Migration.replaces)
