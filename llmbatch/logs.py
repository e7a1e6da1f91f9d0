"""The server log and the two rotating files of model calls and answered requests."""

import json
import logging
import math
import os
import sys
from contextlib import suppress
from copy import copy
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

from django.http.request import split_domain_port

from batching.telemetry.log_context import trace_fields

logger = logging.getLogger(__name__)

LOG_FILES = CALLS_FILE, PAIRS_FILE = (
    "llm_request_response.log",
    "individual_request_response.log",
)
CALLS, PAIRS = "batching.log.calls", "batching.log.pairs"
MEGABYTE = 1024 * 1024
REPEAT_S = 10.0
MAX_REPEATED = 1000
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


class ServerLog(logging.StreamHandler[TextIO]):
    """Writes to stderr. A fault that repeats with every request does not fill the log.

    Of equal warnings, and of equal tracebacks, one is written in REPEAT_S.
    """

    def __init__(self) -> None:
        super().__init__()
        # By key: when it was last written, and how many were left out since.
        self._repeated: dict[tuple[str, ...], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        shortened = record if record.levelno < logging.WARNING else self._shorten(record)
        if shortened is not None:
            super().emit(shortened)

    def _shorten(self, record: logging.LogRecord) -> logging.LogRecord | None:
        message, shortened = record.getMessage(), copy(record)
        error = record.exc_info[1] if record.exc_info else None
        while error and error.__cause__:
            error = error.__cause__
        cause = f"{type(error).__name__}: {error}" if error else ""
        left_out = self._take(("line", record.name, message, cause), now=record.created)
        if left_out is None:
            return None
        key = ("traceback", record.name, str(record.msg), cause)
        if error and self._take(key, now=record.created) is None:
            shortened.exc_info = shortened.exc_text = None
            message = f"{message} ({cause})"
        if left_out:
            message = f"{message} ({left_out} equal lines before this one were left out.)"
        shortened.msg, shortened.args = message, None
        return shortened

    def _take(self, key: tuple[str, ...], *, now: float) -> int | None:
        """Returns how many were left out since the last one, or None to leave out this one."""
        if len(self._repeated) > MAX_REPEATED:
            self._repeated.clear()
        written, left_out = self._repeated.get(key, (-math.inf, 0))
        if 0 <= now - written < REPEAT_S:
            self._repeated[key] = (written, left_out + 1)
            return None
        self._repeated[key] = (now, 0)
        return left_out


class LogFile(RotatingFileHandler):
    """A rotating file that only this user may read.

    Its entries hold prompts and answers, so one that cannot be written is lost: the standard
    library would print it to stderr. `problem` says why the last entry was lost.
    """

    problem = ""

    def _open(self) -> TextIOWrapper:
        def open_private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(  # type: ignore[return-value]
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=open_private,
        )

    def emit(self, record: logging.LogRecord) -> None:
        before, self.problem = self.problem, ""
        super().emit(record)
        if self.problem and self.problem != before:
            logger.error("%s cannot be written: %s.", self.baseFilename, self.problem)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        self.problem = getattr(error, "strerror", None) or type(error).__name__
        stream, self.stream = self.stream, None  # The next entry opens the file again.
        if stream is not None:
            with suppress(OSError):
                stream.close()


def list_log_files() -> list[LogFile]:
    handlers = [*logging.getLogger(CALLS).handlers, *logging.getLogger(PAIRS).handlers]
    return [handler for handler in handlers if isinstance(handler, LogFile)]


def logging_config(*, directory: Path, line_format: str, to_files: bool) -> dict[str, Any]:
    """Returns the `LOGGING` dictionary. `line_format` is text or json, for the server log only."""

    def rotating(name: str) -> dict[str, Any]:
        if not to_files:
            return {"class": "logging.NullHandler"}
        return {
            "class": "llmbatch.logs.LogFile",
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
            "console": {"class": "llmbatch.logs.ServerLog", "formatter": line_format},
            "calls": rotating(CALLS_FILE),
            "pairs": rotating(PAIRS_FILE),
        },
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {
            CALLS: {"handlers": ["calls"], "level": "INFO", "propagate": False},
            PAIRS: {"handlers": ["pairs"], "level": "INFO", "propagate": False},
            "django.security.DisallowedHost": {"filters": ["unlisted_hosts"]},
            "django": {"handlers": [], "level": "INFO", "propagate": True},
        }
        | {name: {"level": "WARNING"} for name in _QUIET},
    }
