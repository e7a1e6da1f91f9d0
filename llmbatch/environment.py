"""Reads environment variables. An invalid value raises an error that names its variable.

Errors do not contain the value: it may be a secret, or contain one, as a URL may.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured, ValidationError

from llmbatch.env_file import Setting, read_env_file

T = TypeVar("T")

_known: set[str] = set()
_from_file: dict[str, Setting] = {}
_HOST_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:\d{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def load_env_file(path: Path) -> None:
    """Adds the settings of the file to the environment, whose own variables come first."""
    for setting in read_env_file(path):
        if setting.name not in os.environ:
            os.environ[setting.name] = setting.value
            _from_file[setting.name] = setting


def refuse_misspelt() -> None:
    """Raises ImproperlyConfigured for a name in `.env` that is almost one of the variables read.

    Other unknown names are left alone: Compose and libraries read the file or its variables, too.
    """
    for name in _from_file.keys() - _known:
        upper = name.upper()
        for meant in get_close_matches(upper, _known, n=1, cutoff=0.9):
            where = f"Line {_from_file[name].line} of .env"
            raise ImproperlyConfigured(f"{where} sets {name}: the variable is called {meant}.")


def read(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
    """Returns the variable's parsed value, or the default if it is unset or blank.

    Raises ImproperlyConfigured with the variable's name and the expected values.
    """
    _known.add(name)
    raw = os.environ.get(name, "")
    if not raw.strip():
        return default
    try:
        raw.encode()
        return parse(raw.strip())
    except (ValueError, KeyError, ValidationError):
        setting = _from_file.get(name)
        where = f" (line {setting.line} of .env)" if setting else ""
        raise ImproperlyConfigured(f"{name}{where} is not valid: expected {expected}.") from None


def read_bool(name: str, default: bool) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    return read(name, default, lambda raw: words[raw.lower()], "true or false")


def read_int(name: str, default: int, *, least: int, most: int) -> int:
    def parse(raw: str) -> int:
        demand(re.fullmatch(r"[+-]?[0-9]+", raw))
        value = int(raw)
        demand(least <= value <= most)
        return value

    return read(name, default, parse, f"a whole number from {least} to {most}")


def read_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    return read(name, default, lambda raw: {c: c for c in choices}[raw], " or ".join(choices))


def read_text(
    name: str, default: str, check: Callable[[str], object], expected: str = "text in UTF-8"
) -> str:
    """`check` raises ValueError or ValidationError, or returns False, for an invalid value."""

    def parse(raw: str) -> str:
        demand(check(raw) is not False)
        return raw

    return read(name, default, parse, expected)


def read_secret(name: str) -> str:
    """Returns the text as it is, spaces at its ends included."""
    return read(name, "", lambda _: os.environ[name], "text in UTF-8")


def read_list(
    name: str,
    default: list[str],
    parse: Callable[[str], str] = str,
    expected: str = "text in UTF-8",
) -> list[str]:
    """Reads a comma-separated list; spaces around its parts and empty parts are removed."""

    def parse_all(raw: str) -> list[str]:
        return [parse(part.strip()) for part in raw.split(",") if part.strip()]

    return read(name, default, parse_all, expected) or default


def read_url(name: str) -> str:
    def parse(raw: str) -> str:
        url = urlsplit(raw)
        demand(url.scheme in ("http", "https") and url.hostname and _is_plain(raw))
        demand(url.port != 0)
        return raw

    return read(name, "", parse, "an address that begins with http:// or https://")


def read_redis_url(name: str) -> str:
    """Returns "" without a server."""

    def parse(raw: str) -> str:
        # Loads slowly, and most gateways do without it.
        from redis.connection import parse_url

        url = urlsplit(raw)
        demand(_is_plain(raw) and not url.fragment)
        demand(url.scheme == "unix" or (url.hostname and re.fullmatch(r"(/\d*)?", url.path)))
        parse_url(raw)  # type: ignore[no-untyped-call]
        return raw

    return read(
        name,
        "",
        parse,
        "an address such as redis://host:6379/0, with special characters of a password"
        " percent-encoded",
    )


def read_host(name: str, default: str) -> str:
    """Reads the address to listen on; an IPv6 address may stand in brackets."""

    def parse(raw: str) -> str:
        host = raw.removeprefix("[").removesuffix("]")
        demand(_is_ip_address(host) or (_HOST_NAME.fullmatch(raw) and not _is_number(raw)))
        return host

    return read(name, default, parse, "an IP address of this machine, or 0.0.0.0 for all of them")


def read_allowed_hosts(name: str, default: list[str]) -> list[str]:
    def parse(raw: str) -> str:
        bracketed = re.fullmatch(r"\[(.+)\]", raw)
        if bracketed:
            demand(_is_ip_address(bracketed[1]))
        else:
            demand(raw == "*" or _HOST_NAME.fullmatch(raw.removeprefix(".").removesuffix(".")))
        return raw

    return read_list(
        name,
        default,
        parse,
        "host names without scheme, port and path, separated by commas, such as"
        " gateway.example.com",
    )


def read_origins(name: str) -> list[str]:
    """Returns origins as browsers write them, or `*` for all."""

    def parse(raw: str) -> str:
        origin = raw.lower()
        if raw == "*":
            return raw
        demand(_ORIGIN.fullmatch(origin))
        scheme, _, rest = origin.partition("://")
        return f"{scheme}://{rest.removesuffix(_DEFAULT_PORTS.get(scheme, '/'))}"

    return read_list(
        name,
        [],
        parse,
        "origins without a path, separated by commas, such as https://app.example.com",
    )


def prepare_folder(name: str, folder: Path, files: Iterable[Path]) -> None:
    """Creates the folder if it is missing. The process must be able to write there.

    Raises ImproperlyConfigured with the variable's name and the path.
    """
    wrong: Path | None = folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        existing = [path for path in files if path.exists()]
        wrong = next((p for p in [folder, *existing] if not os.access(p, os.R_OK | os.W_OK)), None)
        wrong = wrong or next((path for path in existing if not path.is_file()), None)
    except OSError:
        pass
    if wrong:
        raise ImproperlyConfigured(
            f"{name}: {wrong} cannot be written by this user: change its owner or mode, or set the"
            " variable to another path."
        )


def load_secret(path: Path) -> str:
    """Returns the secret in the file `path`, which the first call creates.

    Raises ImproperlyConfigured if it cannot be kept there: with a new secret at each start,
    sessions would end and the stored model key could not be decrypted.
    """
    secret = None
    with suppress(OSError, UnicodeDecodeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_text().strip()
        else:
            secret = secrets.token_urlsafe(50)
            with os.fdopen(descriptor, "w") as file:
                file.write(secret)
    if not secret:
        raise ImproperlyConfigured(
            f"DJANGO_SECRET_KEY is not set, and {path} cannot hold a secret for this user: set the"
            " variable, or make the file and its folder readable and writable."
        )
    return secret


def is_path(text: str) -> bool:
    """Whether a folder can be created at this path, except for the permissions."""
    parents = [Path(text), *Path(text).parents]
    return next(path for path in parents if path.exists()).is_dir()


def demand(condition: object) -> None:
    """Raises ValueError, which `read` turns into an error about the variable."""
    if not condition:
        raise ValueError


def _is_plain(text: str) -> bool:
    return text.isprintable() and not re.search(r"\s", text)


def _is_number(text: str) -> bool:
    """Whether the text is made like an IPv4 address; a wrong one is no host name."""
    return text.replace(".", "").isdigit()


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
