"""The server log and the two rotating files of model calls and answered requests."""

import json
import logging
from pathlib import Path
from typing import Any

from django.http.request import split_domain_port

from batching.telemetry.log_context import trace_fields

LOG_FILES = CALLS_FILE, PAIRS_FILE = (
    "llm_request_response.log",
    "individual_request_response.log",
)
MEGABYTE = 1024 * 1024
# Loggers of libraries that write an info line per request or per connection.
_QUIET = (
    *("django.channels.server", "daphne", "google_genai", "httpx2", "httpcore2", "axes"),
    "asyncio",
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class UnlistedHosts(logging.Filter):
    """Lets one line per refused Host header pass, and names the variable that would allow it."""

    MAX_NAMED = 100  # Anybody may send any number of names.

    def __init__(self) -> None:
        super().__init__()
        self._named: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        request = vars(record).pop("request", None)
        raw = request.META.get("HTTP_HOST", "") if request else ""
        host = (split_domain_port(raw)[0] or raw)[:200]
        if host in self._named or len(self._named) >= self.MAX_NAMED:
            return False
        self._named.add(host)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = (
            "Requests for the host %r get 400: if it is a name of this gateway, add it to"
            " DJANGO_ALLOWED_HOSTS."
        )
        record.args, record.exc_info, record.exc_text = (host,), None, None
        return True


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, the fields of `extra`,
    and the fields that the current HTTP exchange or batch has bound."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= trace_fields()
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def logging_config(*, directory: Path, line_format: str, to_files: bool) -> dict[str, Any]:
    """Returns the `LOGGING` dictionary. `line_format` is text or json, for the server log only."""

    def rotating(name: str) -> dict[str, Any]:
        if not to_files:
            return {"class": "logging.NullHandler"}
        return {
            "class": "logging.handlers.RotatingFileHandler",
            "filename": directory / name,
            "maxBytes": 20 * MEGABYTE,
            "backupCount": 5,
            "encoding": "utf-8",
            "errors": "backslashreplace",
            "delay": True,
            "formatter": "block",
        }

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            "json": {"()": "llmbatch.logs.JsonFormatter"},
            "block": {"format": "%(asctime)s %(message)s\n"},
        },
        "filters": {"unlisted_hosts": {"()": "llmbatch.logs.UnlistedHosts"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": line_format},
            "calls": rotating(CALLS_FILE),
            "pairs": rotating(PAIRS_FILE),
        },
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {
            "batching.log.calls": {"handlers": ["calls"], "level": "INFO", "propagate": False},
            "batching.log.pairs": {"handlers": ["pairs"], "level": "INFO", "propagate": False},
            "django.security.DisallowedHost": {"filters": ["unlisted_hosts"]},
            "django": {"handlers": [], "level": "INFO", "propagate": True},
        }
        | {name: {"level": "WARNING"} for name in _QUIET},
    }
