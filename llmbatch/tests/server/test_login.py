"""Parallel guesses lock the login of a real server, and a command unlocks it."""

import asyncio
import re
from pathlib import Path

import httpx2
import pytest

from llmbatch.tests.fixtures.server import Server

pytestmark = pytest.mark.server


async def log_in(server: Server, password: str) -> int:
    """Tries again while other requests from this address keep it waiting for too long (503)."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
        while True:
            page = await http.get("/admin/login/")
            if page.status_code == 200:
                form = {"username": "admin", "password": password}
                form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
                response = await http.post("/admin/login/", data=form)
                if response.status_code != 503:
                    return response.status_code


async def test_parallel_guesses_lock_the_login_and_a_command_unlocks_it(tmp_path: Path) -> None:
    with Server(tmp_path, API_ACCESS="key") as server:
        printed = await asyncio.to_thread(server.manage, "create_first_admin")
        found = re.search(r"password (\S+)", printed)
        assert found is not None
        codes = await asyncio.gather(*(log_in(server, f"guess {n}") for n in range(10)))
        assert set(codes) <= {200, 429}
        assert codes.count(200) < 5, "the fifth guess gets 429"
        assert await log_in(server, found[1]) == 429
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
            wrong_key = await http.get("/v1/settings", headers={"Authorization": "Bearer wrong"})
            assert wrong_key.status_code == 401
        await asyncio.to_thread(server.manage, "axes_reset")
        assert await log_in(server, found[1]) == 302
        assert "guess" not in server.log
        assert found[1] not in server.log
