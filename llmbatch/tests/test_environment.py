"""An invalid value of any variable stops the start with one sentence that names the variable."""

import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmbatch.env_file import parse_env, read_env_file
from llmbatch.environment import load_secret, prepare_folder
from llmbatch.tests.docs.variables import ROOT, variables
from llmbatch.tests.fixtures.databases import copy_sqlite

SECRET = "s3cret"
NO_NUMBERS = ["x", "1.5", "1e3", "1_0", "-1", "99999999999", f"{SECRET}"]
NOT_BOOLEAN = ["maybe", "2", "true;", "tru"]
INVALID: dict[str, list[str]] = {
    "DJANGO_DEBUG": NOT_BOOLEAN,
    "DJANGO_SECRET_KEY": ["\udcff"],
    "DJANGO_ALLOWED_HOSTS": [
        "https://gateway.example",
        "gateway.example:8000",
        "gateway.example/v1",
        "a.example b.example",
        "a.example,https://b.example",
        "a;b",
        "bücher.example",
        "::1",
        "[::1]:8000",
        "*.example",
        "user@host",
        "a..b",
    ],
    "DATABASE_URL": [
        "nonsense",
        "nonsense://x",
        "data/gateway.sqlite3",
        "mysql://user:s3cret@host/name",
        "sqlite://",
        "sqlite://data/gateway.sqlite3",
        "sqlite:///:memory:",
        "sqlite://:memory:",
        "sqlite:///data/x.sqlite3?timeout=5",
        "postgres://user:s3cret@host",
        "postgres://user:s3cret@host:port/name",
        "postgres://user:s3cret@host:99999/name",
        "postgres://user:12/s3cret@host/name",
        "postgres://user@host/name?nonsense=s3cret",
        "postgres://[::1/name",
    ],
    "REDIS_URL": [
        "nonsense",
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://host:port/0",
        "redis://:s3cret#x@host/0",
        "redis://:12#s3cret@host/0",
        "redis://host/name",
        "redis://host 1",
        "redis://host?socket_timeout=s3cret",
    ],
    "GEMINI_API_KEY": ["two words", "schlüssel", "***1234", "x" * 201, "a\nb"],
    "GEMINI_MODEL": ["two words", "../secret", "x" * 101, "a/../b", "-?"],
    "GEMINI_BASE_URL": ["nonsense", "ftp://host", "http://", "https://a b", "http://h:x", "//h"],
    "GEMINI_API_VERSION": ["v1 beta", "../v1", "v1?x"],
    "SETTINGS_ENCRYPTION_KEYS": ["\udcff", "a good passphrase,\udcff"],
    "API_ACCESS": ["Open", "keys", "none", "true"],
    "CORS_ALLOWED_ORIGINS": [
        "app.example",
        "https://app.example/",
        "https://app.example/path",
        "https://*.example",
        "https://a.example https://b.example",
        "https://",
        "null",
        "*",
        "https://user@app.example",
    ],
    "HOST": ["http://localhost", "localhost:8000", "*", "1.2.3", "256.0.0.1", "a b", "::g", ":::"],
    "PORT": [*NO_NUMBERS, "0", "65536"],
    "LOG_DIR": [f"{__file__}/logs", __file__],
    "LOG_FORMAT": ["xml", "JSON"],
    "LOG_PROMPTS": NOT_BOOLEAN,
    "MAX_CONNECTIONS_PER_ADDRESS": [*NO_NUMBERS, "0"],
    "MODEL_CALL_SLOTS": [*NO_NUMBERS, "0"],
    "ASYNC_DEADLINE_S": [*NO_NUMBERS, "0"],
    "LEASE_S": [*NO_NUMBERS, "1"],
    "TLS_PROXY": NOT_BOOLEAN,
    "TRUSTED_PROXIES": [*NO_NUMBERS, "0"],
    "HSTS_S": NO_NUMBERS,
    "DRAIN_S": NO_NUMBERS,
}
VALID: dict[str, dict[str, Any]] = {
    "DJANGO_SECRET_KEY": {" $ecret with spaces ": " $ecret with spaces "},
    "DJANGO_ALLOWED_HOSTS": {
        "a.example, .b.example ,[::1],10.0.0.1,": ["a.example", ".b.example", "[::1]", "10.0.0.1"],
        "*": ["*"],
        "A_b.Example": ["A_b.Example"],
    },
    "SETTINGS_ENCRYPTION_KEYS": {"$new, old key": ["$new", "old key"]},
    "CORS_ALLOWED_ORIGINS": {
        "HTTPS://App.example:443, http://[::1]:3000": ["https://app.example", "http://[::1]:3000"],
        "app-1://x": ["app-1://x"],
    },
    "HOST": {"[::1]": "::1", "0.0.0.0": "0.0.0.0", "localhost": "localhost", "::": "::"},
    "REDIS_URL": {
        url: url
        for url in [
            "redis://localhost",
            "rediss://user:p%23@host:6379/1?ssl_cert_reqs=none",
            "unix:///run/redis.sock?db=1",
        ]
    },
    "GEMINI_API_KEY": {"$AIza-1": "$AIza-1", "  AIza-1 ": "AIza-1"},
    "TLS_PROXY": {" On ": True, "0": False},
    "PORT": {" 8080 ": 8080},
}


@pytest.fixture
def read_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the settings module again, with no variables but the given ones."""

    def run(**given: str) -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if name not in variables()}
        base = {"DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3", "DJANGO_SECRET_KEY": "x"}
        monkeypatch.setattr(os, "environ", kept | base | given)
        return runpy.run_path(str(ROOT / "llmbatch/settings.py"))

    return run


def test_every_variable_has_invalid_values() -> None:
    assert set(INVALID) == variables()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID.items() for value in values]
)
def test_invalid_value_is_refused_in_one_sentence_that_names_the_variable(
    read_settings: Any, name: str, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        read_settings(**{name: value})
    message = str(refused.value)
    assert message.startswith(name)
    assert re.fullmatch(r"[^\n]+\.", message)
    assert SECRET not in message


@pytest.mark.parametrize("name", sorted(INVALID))
def test_text_that_is_not_utf_8_is_refused(read_settings: Any, name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        read_settings(**{name: "x\udcff"})


@pytest.mark.parametrize(
    ("name", "raw"), [(name, raw) for name, values in VALID.items() for raw in values]
)
def test_valid_value_is_applied_as_written(read_settings: Any, name: str, raw: str) -> None:
    setting = name.removeprefix("DJANGO_")
    assert read_settings(**{name: raw})[setting] == VALID[name][raw]


def test_blank_value_means_the_default(read_settings: Any) -> None:
    blank = dict.fromkeys(variables() - {"DATABASE_URL", "DJANGO_SECRET_KEY"}, " ")
    given, default = read_settings(**blank), read_settings()
    for name in blank:
        setting = name.removeprefix("DJANGO_")
        assert given[setting] == default[setting]


def test_example_changes_nothing_and_its_values_are_the_defaults(read_settings: Any) -> None:
    text = (ROOT / ".env.example").read_text()
    assert parse_env(text) == []
    lines = [line.removeprefix("# ") for line in text.splitlines() if re.match("# [A-Z_]+=", line)]
    given = {setting.name: setting.value for setting in parse_env("\n".join(lines))}
    assert set(given) == variables()
    default = read_settings()
    applied = read_settings(**{n: v for n, v in given.items() if v and n != "LOG_DIR"})
    for name in given.keys() - {"LOG_DIR"}:
        setting = name.removeprefix("DJANGO_")
        assert applied.get(setting) == default.get(setting), name


def test_options_of_the_database_url_are_applied(read_settings: Any) -> None:
    url = "postgres://user:p%40%23+@host:5433/name?sslmode=require&application_name=a"
    database = read_settings(DATABASE_URL=url)["DATABASES"]["default"]
    assert (database["PASSWORD"], database["PORT"], database["NAME"]) == ("p@#+", 5433, "name")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == 16


def test_path_of_the_database_is_the_written_one(read_settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "a+b c" / "x.sqlite3"
    database = read_settings(DATABASE_URL=f"sqlite:///{path}")["DATABASES"]["default"]
    assert database["NAME"] == str(path)
    assert path.parent.is_dir()


def test_file_that_is_no_database_is_refused_by_its_path(
    read_settings: Any, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are no tables at all")
    with pytest.raises(ImproperlyConfigured, match=rf"DATABASE_URL: {path} is not"):
        read_settings(DATABASE_URL=f"sqlite:///{path}")


def deny(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """The tests may run as root, and root may write to every path."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied and access(path, mode))


@pytest.mark.parametrize("denied", ["", "file"])
def test_folder_or_file_that_cannot_be_written_is_refused_by_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, denied: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    prepare_folder("LOG_DIR", tmp_path, [file, tmp_path / "missing"])
    deny(monkeypatch, tmp_path / denied)
    with pytest.raises(ImproperlyConfigured, match=rf"^LOG_DIR: {tmp_path / denied} cannot"):
        prepare_folder("LOG_DIR", tmp_path, [file])


def test_folder_that_cannot_be_created_is_refused_by_its_path() -> None:
    folder = Path(__file__) / "data"
    with pytest.raises(ImproperlyConfigured, match=rf"^DATABASE_URL: {folder} cannot"):
        prepare_folder("DATABASE_URL", folder, [])


def test_secret_is_kept_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret_key"
    secret = load_secret(path)
    assert load_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(" \n")
    for unusable in (path, tmp_path, Path(__file__) / "secret_key"):
        with pytest.raises(ImproperlyConfigured, match="DJANGO_SECRET_KEY is not set, and"):
            load_secret(unusable)


def test_first_env_is_written_once_and_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    monkeypatch.setattr(sys, "argv", ["first_env", str(path)])
    runpy.run_module("llmbatch.first_env", run_name="__main__")
    names = [setting.name for setting in read_env_file(path)]
    assert names == ["DJANGO_DEBUG", "DJANGO_SECRET_KEY", "SETTINGS_ENCRYPTION_KEYS"]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SystemExit, match="cannot be created here: File exists"):
        runpy.run_module("llmbatch.first_env", run_name="__main__")


def run_serve(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    return run_gateway("serve", folder, **given)


def run_gateway(command: str, folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SECRET_KEY": "x" * 50,
        "DATABASE_URL": f"sqlite:///{folder}/x.sqlite3",
        "LOG_DIR": str(folder),
    }
    return subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=ROOT,
        env=environment | given,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("name", "value"), [("DATABASE_URL", "nonsense"), ("LOG_DIR", f"{__file__}/logs")]
)
def test_serve_ends_with_the_sentence_alone(tmp_path: Path, name: str, value: str) -> None:
    done = run_serve(tmp_path, **{name: value})
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"{name} is not valid: expected [^\n]+\.\n", done.stderr)


@pytest.mark.parametrize("problem", ["port", "address"])
def test_address_that_cannot_be_used_is_named_before_serving_is_announced(
    tmp_path: Path, problem: str
) -> None:
    copy_sqlite(tmp_path / "x.sqlite3")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        host = "127.0.0.1" if problem == "port" else "192.0.2.1"
        done = run_serve(tmp_path, HOST=host, PORT=port)
    assert done.returncode == 1
    assert "Serving on" not in done.stdout
    assert "Traceback" not in done.stderr
    named = f"port {port} of 127.0.0.1" if problem == "port" else "HOST=192.0.2.1"
    assert named in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["migrate", "create_first_admin"])
def test_unusable_database_is_named_without_a_traceback(tmp_path: Path, command: str) -> None:
    url = "postgres://nobody:s3cret@127.0.0.1:1/none"
    done = run_gateway(command, tmp_path, DATABASE_URL=url)
    assert done.returncode == 1
    assert "The database of DATABASE_URL cannot be used: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
