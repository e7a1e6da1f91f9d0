"""Follows docs/operations.md as it is written: another user, TLS, nginx, and the units of systemd.

Only the folder, the user, the ports and the certificate differ from the document.
"""

import json
import os
import pwd
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from llmbatch.tests.fixtures.image import ROOT
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENCE_S, free_port

TEXT = (ROOT / "docs/operations.md").read_text()
DEBIAN_PYTHON = "/usr/bin/python3"
USER = "nobody"  # in place of `gateway`
HOST = "gateway.example.com"
PROMPT = {"username": "ann", "prompt": "Why is the sky blue?", "priority": "HIGH"}
LEFT_OUT = {".git", ".venv", ".env", "data", "logs", "staticfiles"}


def skip_without(*programs: str) -> None:
    missing = [f"no {name}" for name in programs if not shutil.which(name)]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(", ".join(missing))


def find_block(name: str, language: str) -> str:
    [block] = re.findall(rf"<!-- {re.escape(name)} -->\n```{language}\n(.*?)```", TEXT, re.S)
    return block


def find_units(folder: Path) -> dict[str, str]:
    names = re.findall(r"<!-- unit-(.+) -->", TEXT)
    units = {name: find_block(f"unit-{name}", "ini") for name in names}
    return {name: unit.replace("/srv/llmbatch", str(folder)) for name, unit in units.items()}


@dataclass
class Site:
    """An installation: `folder` takes the place of /srv/llmbatch."""

    folder: Path
    port: int
    tls_port: int
    password: str = ""
    key: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.tls_port}"

    def run(self, commands: str) -> str:
        """Runs commands of the document. What needs a network or changes the machine is a stub."""
        stubs = self.folder.parent / "stubs"
        for name in ("apt", "useradd", "git", "make"):
            (stubs / name).write_text("#!/bin/sh\n")
            (stubs / name).chmod(0o755)
        commands = commands.replace("/srv/llmbatch", str(self.folder))
        commands = re.sub(r"(-u|--owner) gateway", rf"\1 {USER}", commands)
        commands = commands.replace("--group gateway", f"--group {find_group()}")
        done = subprocess.run(
            ["sh", "-euc", commands],
            cwd=self.folder,
            env={"PATH": f"{stubs}:/usr/sbin:/usr/bin:/sbin:/bin", "REPOSITORY": "unused"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def find_group() -> str:
    return str(pwd.getpwnam(USER).pw_gid)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A checkout whose `.venv` runs Debian's Python with the packages of this interpreter."""
    skip_without("nginx", "openssl", "runuser")
    same_version = f"sys.version_info[:2] == {tuple(sys.version_info[:2])}"
    readable = f"os.access({sysconfig.get_path('purelib')!r}, os.R_OK | os.X_OK)"
    check = f"import os, sys; print({same_version} and {readable})"
    as_user = ["runuser", "-u", USER, "--", DEBIAN_PYTHON, "-c", check]
    if os.geteuid() or subprocess.run(as_user, capture_output=True, cwd="/").stdout != b"True\n":
        pytest.skip(
            f"needs root, {DEBIAN_PYTHON} of the version that runs the tests, and packages that"
            f" {USER} can read"
        )
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "llmbatch"
        (Path(name) / "stubs").mkdir()
        shutil.copytree(ROOT, folder, ignore=lambda _, names: LEFT_OUT & {*names}, symlinks=True)
        environment = folder / ".venv"
        subprocess.run([DEBIAN_PYTHON, "-m", "venv", "--without-pip", environment], check=True)
        [packages] = environment.glob("lib/python*/site-packages")
        (packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
        if find_spec("async_timeout") is None:  # Redis's client needs it below Python 3.11.3.
            (packages / "async_timeout.py").write_text("from asyncio import timeout\n")
        yield Site(folder, free_port(), free_port())


@pytest.fixture(scope="module")
def _installed(site: Site, _model_of_servers: ModelThread) -> Iterator[None]:
    """Runs the steps of the document and the command of the unit."""
    site.run(find_block("production-folder", "sh"))
    [variables] = re.findall(r"```ini\n(DJANGO_DEBUG=.*?)```", TEXT, re.S)
    with (site.folder / ".env").open("a") as file:
        file.write(variables.replace("change-me", "changed").replace("GEMINI_API_KEY=\n", ""))
        file.write(f"GEMINI_API_KEY=test-key-0123456789\nGEMINI_BASE_URL={_model_of_servers.url}\n")
        file.write(f"PORT={site.port}\n")
    output = site.run(find_block("production-start", "sh"))
    [site.password] = re.findall(r"assword\S*:? +(\S{12,})", output)
    key = site.run(f"runuser -u {USER} -- ./gateway create_api_key proxy").split()[-1]
    site.key = {"Authorization": f"Bearer {key}"}
    [command] = re.findall(r"^ExecStart=(.+)$", find_units(site.folder)["llmbatch.service"], re.M)
    log = site.folder.parent / "server.log"
    with log.open("wb") as output_file:
        process = subprocess.Popen(
            command.split(),
            user=USER,
            group=pwd.getpwnam(USER).pw_gid,
            extra_groups=[],
            cwd=site.folder,
            env={"PATH": "/usr/bin:/bin"},
            stdout=output_file,
            stderr=output_file,
        )
    try:
        limit = time.monotonic() + PATIENCE_S
        while not _answers(f"http://127.0.0.1:{site.port}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def _proxy(site: Site, _installed: None) -> Iterator[None]:
    """Runs nginx with the document's configuration and a certificate of its own."""
    folder = site.folder.parent / "nginx"
    folder.mkdir()
    make = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    files = ["-keyout", folder / "gateway.key", "-out", folder / "gateway.pem"]
    subprocess.run([*make.split(), *names, *files], check=True, capture_output=True)
    block = find_block("nginx", "nginx")
    for written, used in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{site.tls_port} ssl;"),
        ("http://127.0.0.1:8000;", f"http://127.0.0.1:{site.port};"),
        ("/etc/ssl/certs/", f"{folder}/"),
        ("/etc/ssl/private/", f"{folder}/"),
    ):
        assert block.count(written) == 1
        block = block.replace(written, used)
    (folder / "gateway.conf").write_text(block)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths} include {folder}/gateway.conf; }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        limit = time.monotonic() + PATIENCE_S
        with make_client(site) as client:
            while not _can_connect(client):
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < limit
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _can_connect(client: httpx.Client) -> bool:
    try:
        client.get("/health")
    except httpx.TransportError:
        return False
    return True


def trust(site: Site) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=site.folder.parent / "nginx/gateway.pem")
    context.check_hostname = False  # httpx connects to 127.0.0.1
    return context


def make_client(site: Site) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{site.tls_port}",
        headers={"Host": f"{HOST}:{site.tls_port}"},
        verify=trust(site),
        timeout=PATIENCE_S,
    )


@pytest.mark.server
def test_production_site_works_behind_the_proxy(site: Site, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("_proxy")
    with make_client(site) as client:
        assert client.get("/health/ready").status_code == 200
        answer = client.post("/v1/query", json=PROMPT, headers=site.key)
        assert answer.json()["text"].startswith("[simulated]")
        stream = site.key | {"Accept": "text/event-stream"}
        with client.stream("POST", "/v1/query", json=PROMPT, headers=stream) as reply:
            chunks = list(reply.iter_text())
        assert len(chunks) > 1, "the proxy collects no events"
        assert '"type": "done"' in chunks[-1]
        large = client.post("/v1/query", content=b" " * 2_100_000, headers=site.key)
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        check_pages(client, site)
    check_files(site)


@pytest.mark.server
async def test_sockets_work_behind_the_proxy(site: Site, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("_proxy")
    async with connect(
        f"wss://{HOST}:{site.tls_port}/ws/query",
        host="127.0.0.1",
        port=site.tls_port,
        ssl=trust(site),
        origin=site.url,
        additional_headers=site.key,
        proxy=None,
    ) as socket:
        await socket.send(json.dumps(PROMPT | {"type": "query"}))
        frames = [json.loads(await socket.recv())]
        while frames[-1]["type"] not in ("done", "error"):
            frames.append(json.loads(await socket.recv()))
    assert frames[-1]["type"] == "done", frames


def check_pages(client: httpx.Client, site: Site) -> None:
    """Logs in with the printed password, and opens the live page and its socket."""
    client.get("/admin/login/")
    form = {"username": "admin", "password": site.password, "next": "/live"}
    form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
    login = client.post("/admin/login/", data=form, headers={"Origin": site.url})
    assert (login.status_code, login.headers["Location"]) == (302, "/live")
    assert client.get("/live").status_code == 200
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": site.url}
    with client.stream("GET", "/ws/live", headers=upgrade) as reply:
        assert reply.status_code == 101


def check_files(site: Site) -> None:
    """Nobody but the gateway's user may read the database and the logs."""
    written = [*(site.folder / "data").iterdir(), *(site.folder / "logs").iterdir()]
    assert {path.suffix for path in written} >= {".sqlite3", ".sqlite3-wal", ".log"}
    for path in written:
        assert (path.owner(), path.stat().st_mode & 0o777) == (USER, 0o600), path
    assert not (site.folder / "data/secret_key").exists()
    settings_file = (site.folder / ".env").stat()
    assert (settings_file.st_mode & 0o777, settings_file.st_uid) == (
        0o600,
        pwd.getpwnam(USER).pw_uid,
    )


def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    skip_without("systemd-analyze")
    program = tmp_path / "gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = find_units(tmp_path)
    assert list(units) == ["llmbatch.service", "llmbatch-worker@.service"]
    for name, unit in units.items():
        (tmp_path / name).write_text(unit)
        run = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True
        )
        assert (run.returncode, name in run.stderr) == (0, False), run.stderr
        assert "WantedBy=multi-user.target" in unit
