"""Checks at start that the database has all migrations; without them requests would fail."""

from importlib import import_module
from pkgutil import iter_modules

from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

OWN_APPS = ("settings_app", "chats", "batching")


def demand_migrations() -> None:
    """Raises CommandError if a migration of the project's apps has not been applied.

    An unreachable database raises nothing: the process waits for it.
    """
    try:
        applied = set(MigrationRecorder(connection).applied_migrations())
    except OperationalError:
        return
    finally:
        connection.close()
    missing = [
        f"{app}.{name}"
        for app in OWN_APPS
        for name in _list_migrations(app)
        if (app, name) not in applied
    ]
    if missing:
        raise CommandError(
            f"The database lacks migrations, the first is {missing[0]}:"
            " run `./gateway migrate`, then start again."
        )


def _list_migrations(app: str) -> list[str]:
    package = import_module(f"{app}.migrations")
    return sorted(module.name for module in iter_modules(package.__path__))
