"""The fields that all log lines of one HTTP exchange, or of one batch, have in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("log fields", default=MappingProxyType({}))


def trace_fields() -> Mapping[str, Any]:
    return _FIELDS.get()


def current_exchange() -> str:
    """Returns the `X-Request-Id` of the current HTTP exchange, or "" outside of one."""
    return str(_FIELDS.get().get("x_request_id", ""))


def bind(**fields: Any) -> None:
    """Adds fields to all further log lines of this task, and of tasks that copy its context."""
    _FIELDS.set({**_FIELDS.get(), **fields})


@contextmanager
def begin_exchange(name: str) -> Iterator[None]:
    token = _FIELDS.set({"x_request_id": name})
    try:
        yield
    finally:
        _FIELDS.reset(token)
