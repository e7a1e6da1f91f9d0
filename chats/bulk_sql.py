"""SQL statements for the few writes that every request makes, many rows per statement.

The ORM builds and compiles its query for every call, which takes longer than the database needs.
These statements are built once from the models, so each column is still declared in one place.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from django.db import connection, models


def _converter(field: "models.Field[Any, Any]") -> Callable[[Any], Any] | None:
    if isinstance(field, models.DateTimeField):
        return connection.ops.adapt_datetimefield_value
    if isinstance(field, models.JSONField):
        return json.dumps
    return None


class _Columns:
    """Some fields of a model as quoted columns, and their values as query parameters."""

    def __init__(self, model: type[models.Model], names: Sequence[str]) -> None:
        concrete = {field.name: field for field in model._meta.concrete_fields}
        fields = [concrete[name] for name in names]
        self.attributes = [field.attname for field in fields]
        self.quoted = [connection.ops.quote_name(field.column) for field in fields]
        self._converters = [_converter(field) for field in fields]

    def adapt(self, values: Sequence[Any]) -> list[Any]:
        return [
            value if convert is None or value is None else convert(value)
            for convert, value in zip(self._converters, values, strict=True)
        ]


class BulkInsert:
    """Inserts new objects of a model and sets their primary keys, unless `reserve_keys` has."""

    def __init__(self, model: type[models.Model]) -> None:
        self._model = model

    @cached_property
    def _columns(self) -> _Columns:
        fields = self._model._meta.concrete_fields
        return _Columns(self._model, [field.name for field in fields if not field.primary_key])

    @cached_property
    def _all_columns(self) -> _Columns:
        return _Columns(self._model, [field.name for field in self._model._meta.concrete_fields])

    def reserve_keys(self, rows: Sequence[models.Model]) -> None:
        """Sets the next primary keys, for rows that are inserted in another order. On Postgres."""
        meta = self._model._meta
        sql = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"
        table = connection.ops.quote_name(meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(sql, [table, meta.pk.column, len(rows)])
            for row, key in zip(rows, sorted(key for (key,) in cursor.fetchall()), strict=True):
                row.pk = key

    def run(self, rows: Sequence[models.Model]) -> None:
        if not rows:
            return
        keyed = rows[0].pk is not None
        columns, meta = self._all_columns if keyed else self._columns, self._model._meta
        parameters: list[Any] = []
        for row in rows:
            parameters += columns.adapt([row.__dict__[name] for name in columns.attributes])
        placeholders = f"({', '.join(['%s'] * len(columns.attributes))})"
        table = connection.ops.quote_name(meta.db_table)
        names, values = ", ".join(columns.quoted), ", ".join([placeholders] * len(rows))
        key = connection.ops.quote_name(meta.pk.column)
        sql = f"INSERT INTO {table} ({names}) VALUES {values} RETURNING {key}"  # noqa: S608 # nosec B608
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            keys = sorted(key for (key,) in cursor.fetchall())
        # Keys are assigned in the order of the rows, but RETURNING may return them in another.
        for row, key in zip(rows, keys, strict=True):
            row.pk = row.pk or key
            row._state.adding = False


class BulkUpdate:
    """Updates many rows, each with its own values.

    The columns in `assign` are set to their value, those in `add` are increased by it, and those
    in `where` must equal it.
    """

    def __init__(
        self,
        model: type[models.Model],
        *,
        assign: Sequence[str] = (),
        add: Sequence[str] = (),
        where: Sequence[str] = ("id",),
    ) -> None:
        self._model = model
        self._assign, self._add, self._where = list(assign), list(add), list(where)

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns(self._model, self._assign + self._add + self._where)

    @cached_property
    def _sql(self) -> str:
        quoted = self._columns.quoted
        assigned, added = len(self._assign), len(self._assign) + len(self._add)
        sets = [f"{name} = %s" for name in quoted[:assigned]]
        sets += [f"{name} = {name} + %s" for name in quoted[assigned:added]]
        table = connection.ops.quote_name(self._model._meta.db_table)
        conditions = " AND ".join(f"{name} = %s" for name in quoted[added:])
        return f"UPDATE {table} SET {', '.join(sets)} WHERE {conditions}"  # noqa: S608 # nosec B608

    def run(self, rows: Sequence[Sequence[Any]]) -> None:
        """Takes the values of each row in the order `assign`, `add`, `where`."""
        if rows:
            with connection.cursor() as cursor:
                cursor.executemany(self._sql, [self._columns.adapt(row) for row in rows])
