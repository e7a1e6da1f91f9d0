"""docker-compose.yml and its proxy match the code. The tests need no Docker engine."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands, load_command_class

from batching.engine.lanes import GRACE_S
from batching.models import ALIVE_S
from batching.process.runtime import NAME_LENGTH
from llmbatch.tests.docs.variables import variables
from llmbatch.tests.fixtures.databases import create_postgres, drop_postgres
from llmbatch.tests.fixtures.fleet import fleet_marks
from llmbatch.tests.fixtures.image import ROOT, find_one, image_variables
from settings_app.models import Lane

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
VOLUMES = yaml.safe_load(TEXT)["volumes"]
FLEET = {name: service for name, service in SERVICES.items() if name != "gateway"}
PROXY = (ROOT / "docker/fleet.conf").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
WEB, WORKERS, STEPS = ["web1", "web2"], ["worker1", "worker2"], ["required", "migrate"]
PROCESSES = [*WEB, *WORKERS, "migrate"]
OF_COMPOSE = {"POSTGRES_PASSWORD", "FLEET_PORT"}


def arguments(name: str) -> list[str]:
    """Returns the arguments of `manage.py` in a service's command."""
    python, manage, *rest = SERVICES[name]["command"]
    assert (python, manage) == ("python", "manage.py")
    return rest


def find_needed(name: str) -> set[str]:
    """Returns all services that start before this one, directly or indirectly."""
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*map(find_needed, direct))


def directive(name: str) -> str:
    [value] = re.findall(rf"^ *{name} (.+);$", PROXY, re.M)
    return value


def test_default_profile_starts_one_process_without_the_variables_of_a_fleet() -> None:
    assert "profiles" not in SERVICES["gateway"]
    assert "depends_on" not in SERVICES["gateway"]
    # Compose substitutes variables in the whole file, so each one needs a default.
    filled_in = re.findall(r"(?<!\$)\$\{?\w+[^}\s]*", TEXT)
    assert {place.partition(":-")[0] for place in filled_in} == {
        "${PORT",
        "${FLEET_PORT",
        "${POSTGRES_PASSWORD",
    }
    assert all(":-" in place for place in filled_in)
    assert OF_COMPOSE & set(SERVICES["gateway"]["environment"]) == set()


def test_fleet_is_one_profile_and_its_port_needs_all_of_its_services() -> None:
    assert set(FLEET) == {"fleet", *PROCESSES, "required", "postgres", "redis"}
    assert all(service["profiles"] == ["fleet"] for service in FLEET.values())
    assert find_needed("fleet") == set(FLEET) - {"fleet"}


@pytest.mark.parametrize("name", PROCESSES)
def test_commands_of_the_fleet_exist(name: str) -> None:
    command, *options = arguments(name)
    parser = load_command_class(get_commands()[command], command).create_parser("", command)
    parsed = vars(parser.parse_args(options))
    expected = {"web": ("serve", "no_consumer"), "wor": ("batchworker", "name")}.get(name[:3])
    assert expected is None or (expected[0] == command and parsed[expected[1]])


def test_workers_have_distinct_names_that_survive_restarts() -> None:
    names = [arguments(name)[-1] for name in WORKERS]
    assert names == WORKERS == [SERVICES[name]["hostname"] for name in WORKERS]
    assert max(map(len, names)) <= NAME_LENGTH


def test_every_process_of_the_fleet_has_the_same_variables_and_its_own_logs() -> None:
    environments = [dict(SERVICES[name]["environment"]) for name in PROCESSES]
    folders = [environment.pop("LOG_DIR") for environment in environments]
    assert all(environment == environments[0] for environment in environments)
    assert set(environments[0]) == (variables() - {"LOG_DIR"}) | {"PGPASSWORD"}
    solo = SERVICES["gateway"]["environment"]
    own = {name for name, value in environments[0].items() if solo.get(name) != value}
    # All connections of the fleet come from its proxy.
    assert own == {"DATABASE_URL", "PGPASSWORD", "REDIS_URL", "MAX_CONNECTIONS_PER_ADDRESS"}
    assert len(set(folders)) == len(PROCESSES)
    for name, folder in zip(PROCESSES, folders, strict=True):
        [(volume, mount)] = [volume.split(":") for volume in SERVICES[name]["volumes"]]
        assert volume in VOLUMES
        assert str(PurePosixPath(folder).parent) == mount == "/app/logs"


def test_addresses_are_those_of_the_services() -> None:
    environment = SERVICES["web1"]["environment"]
    database, server = urlsplit(environment["DATABASE_URL"]), SERVICES["postgres"]["environment"]
    assert database.hostname in FLEET
    assert database.username == server["POSTGRES_USER"]
    assert database.path == f"/{server['POSTGRES_DB']}"
    assert environment["PGPASSWORD"] == server["POSTGRES_PASSWORD"]
    assert urlsplit(environment["REDIS_URL"]).hostname in FLEET


def test_postgres_is_15_or_newer_and_keeps_its_tables_in_a_volume() -> None:
    version = re.match(r"postgres:(\d+)-", SERVICES["postgres"]["image"])
    assert version
    assert 15 <= int(version[1]) < 18  # 18 uses another data folder
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "postgres" in VOLUMES


def test_fleet_publishes_one_local_port_that_differs_from_the_single_process() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"gateway", "fleet"}
    assert published["fleet"] == [f"127.0.0.1:${{FLEET_PORT:-8080}}:{directive('listen')}"]
    assert published["gateway"] == ["127.0.0.1:${PORT:-8000}:8000"]


@pytest.mark.parametrize("name", FLEET)
def test_services_of_the_fleet_have_no_privileges_and_write_only_to_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    own = service["image"] == "llmbatch"
    assert own == ("build" in service)
    user = find_one("USER") if own else service["user"]
    assert user.partition(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", FLEET)
def test_services_of_the_fleet_are_restarted_checked_and_have_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.DRAIN_S
    if name in STEPS:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
        return
    assert service["restart"] == "unless-stopped"
    # The image's own check connects to the port of `serve`.
    assert name in WEB or service["healthcheck"]["test"]


def test_tables_are_migrated_before_any_process_starts() -> None:
    for name in WEB + WORKERS:
        needed = {key: value["condition"] for key, value in SERVICES[name]["depends_on"].items()}
        assert needed == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "redis": "service_healthy",
        }
    for name in ("postgres", "redis"):
        [demanded] = SERVICES[name]["depends_on"].items()
        assert demanded == ("required", {"condition": "service_completed_successfully"})


def demand(**given: str) -> subprocess.CompletedProcess[str]:
    command = [part.replace("$$", "$") for part in SERVICES["required"]["command"]]
    environment = {"PATH": os.environ["PATH"]} | given
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_fleet_without_its_secrets_stops_with_their_names() -> None:
    secrets = dict.fromkeys(SERVICES["required"]["environment"], "x")
    assert set(secrets) == {"DJANGO_SECRET_KEY", "POSTGRES_PASSWORD", "SETTINGS_ENCRYPTION_KEYS"}
    assert demand(**secrets).returncode == 0
    for missing in secrets:
        done = demand(**secrets | {missing: ""})
        assert done.returncode == 1
        assert re.findall(r"[A-Z]+_[A-Z_]+", done.stderr) == [missing]
        assert missing in demand(**secrets | {missing: "change-me-as-it-was"}).stderr
    assert all(name in demand().stderr for name in secrets)


@pytest.fixture
def database() -> Iterator[str]:
    url = create_postgres()
    yield url
    drop_postgres(url)


@pytest.mark.parametrize(
    ("owner", "silent_s", "healthy"),
    [
        (socket.gethostname(), 0, True),
        (socket.gethostname(), 60, False),
        ("another", 0, False),
    ],
)
class TestHealthOfAWorker:
    pytestmark = fleet_marks()

    def test_depends_on_the_last_report_of_the_worker(
        self, database: str, owner: str, silent_s: int, healthy: bool
    ) -> None:
        row = (f"{owner}#inbox.0123456789abcdef", silent_s)
        with psycopg.connect(database) as connection:
            connection.execute(
                "INSERT INTO batching_worker"
                " (owner, seen_at, slots, reserve, call_s, paused_s, down)"
                " VALUES (%s, now() - make_interval(secs => %s), 16, 4, '[]', 0, false)",
                row,
            )
        word, _, *code = SERVICES["worker1"]["healthcheck"]["test"]
        assert word == "CMD"
        environment = os.environ | {"DATABASE_URL": database}
        done = subprocess.run([sys.executable, *code], env=environment, capture_output=True)
        assert (done.returncode == 0) is healthy, done.stderr
        assert done.stderr == b""


def test_silent_worker_is_left_out_before_it_is_unhealthy() -> None:
    code = SERVICES["worker1"]["healthcheck"]["test"][-1]
    [silent_s] = re.findall(r"interval '(\d+) s'", code)
    assert int(silent_s) > ALIVE_S


def test_proxy_balances_over_the_web_processes_of_the_file() -> None:
    servers = re.findall(r"^ *server (\w+):(\d+) resolve ", PROXY, re.M)
    assert servers == [(name, image_variables()["PORT"]) for name in WEB]
    assert {SERVICES[name]["environment"]["PORT"] for name in WEB} == {image_variables()["PORT"]}
    assert set(re.findall(r"proxy_pass (.+);", PROXY)) == {"http://web"}
    file, target, mode = SERVICES["fleet"]["volumes"][0].split(":")
    assert (ROOT / file).read_text() == PROXY
    assert (target, mode) == ("/etc/nginx/nginx.conf", "ro")
    assert f":{directive('listen')}/health" in SERVICES["fleet"]["healthcheck"]["test"][-1]


@pytest.mark.django_db
def test_proxy_timeout_exceeds_the_longest_wait_of_a_request() -> None:
    slowest_s = max(Lane.objects.values_list("latency_ms", flat=True)) / 1000
    assert int(directive("proxy_read_timeout").removesuffix("s")) > slowest_s + GRACE_S


def test_proxy_never_repeats_a_post_and_does_not_buffer_responses() -> None:
    assert set(directive("proxy_next_upstream").split()) == {"error", "timeout"}
    assert directive("proxy_buffering") == "off"
    assert directive("client_max_body_size") == "2m"
    assert PROXY.count("proxy_set_header X-Forwarded-Proto $forwarded_proto;") == 2
    assert PROXY.count("proxy_set_header X-Forwarded-For $forwarded_for;") == 2
    sockets = PROXY.partition("location /ws/ {")[2].partition("}")[0]
    assert "proxy_set_header Upgrade $http_upgrade;" in sockets
    assert "proxy_set_header Connection upgrade;" in sockets


def test_operations_document_lists_the_variables_services_and_proxy() -> None:
    section = OPERATIONS.partition("## A fleet with compose\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```ini\n(.*?)```", section, re.S)
    named = set(re.findall(r"^(\w+)=", block, re.M))
    assert named == set(SERVICES["required"]["environment"]) | OF_COMPOSE
    [restarted] = re.findall(r"for name in (.+); do", section)
    assert restarted.split() == WORKERS + WEB
    assert set(re.findall(r"--profile fleet (?:exec (?:-T )?|run --rm )(\w+)", section)) == {
        "web1",
        "migrate",
        "postgres",
    }
    assert "`docker/fleet.conf`" in section
    assert '"code": "unreachable"' in PROXY
    assert "`unreachable`" in section
