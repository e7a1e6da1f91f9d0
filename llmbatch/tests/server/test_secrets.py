"""The model key appears in no file, response, page or log."""

import asyncio
import re
from pathlib import Path

import httpx2
import pytest

from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import Server

pytestmark = pytest.mark.server

KEY = "AIzaSyD-a-secret-that-must-not-be-found-anywhere"
FAULTS = ["status-400-key", "status-401", "status-429-day", "reset-at-once", "html", "error-event"]
PAGES = [
    "/v1/settings",
    "/v1/chat",
    "/v1/analytics",
    "/health/ready",
    "/dashboard",
    "/admin/",
    "/admin/settings_app/gatewaysettings/1/change/",
    "/admin/settings_app/gatewaysettings/1/history/",
    "/admin/settings_app/lane/",
    "/admin/settings_app/apikey/",
    "/admin/batching/modelcall/",
    "/admin/batching/batch/1/change/",
    "/admin/nothing/",
]


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def log_in(http: httpx2.AsyncClient, server: Server) -> dict[str, str]:
    printed = await asyncio.to_thread(server.manage, "create_first_admin")
    found = re.search(r"password (\S+)", printed)
    assert found is not None
    await http.get("/admin/login/")
    form = {"username": "admin", "password": found[1].rstrip(".,"), "next": "/admin/"}
    form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
    assert (await http.post("/admin/login/", data=form)).status_code == 302
    return {"X-CSRFToken": http.cookies["csrftoken"], "Referer": server.url}


async def test_stored_key_is_disclosed_nowhere(model: ModelThread, tmp_path: Path) -> None:
    seen = []
    with Server(
        tmp_path, GEMINI_BASE_URL=model.url, GEMINI_API_KEY="", DJANGO_DEBUG="true"
    ) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
            headers = await log_in(http, server)
            document = {"api_key": KEY}
            stored = await http.patch("/v1/settings", json=document, headers=headers)
            assert stored.json()["api_key"] == f"***{KEY[-4:]}"
            seen.append(stored.text)
            seen.append((await http.post("/v1/settings/test-key", headers=headers)).text)
            refused = await http.patch(
                "/v1/settings", json={"api_key": KEY, "nonsense": 1}, headers=headers
            )
            assert refused.status_code == 400
            seen.append(refused.text)
            for fault in ["", *FAULTS]:
                body = {"username": "a", "prompt": f"[[fault:{fault}]] x" if fault else "x"}
                reply = await http.post(
                    "/v1/query", json=body | {"priority": "HIGH", "timeout_s": 5}, headers=headers
                )
                seen.append(reply.text)
            seen += [(await http.get(path)).text for path in PAGES]
            form = {"api_key": KEY, "model": "a b", "retention_days": "x"}
            page = await http.post(
                "/admin/settings_app/gatewaysettings/1/change/",
                data=form | {"csrfmiddlewaretoken": http.cookies["csrftoken"]},
                headers=headers,
            )
            assert "errorlist" in page.text
            seen.append(page.text)
        server.terminate()
    assert {call.headers["x-goog-api-key"] for call in model.calls} == {KEY}, (
        "the calls used the key"
    )
    assert not [text[:200] for text in seen if KEY in text]
    contents = read_files(tmp_path)
    assert len(contents) >= 3, "database and logs exist"
    assert [name for name, content in contents.items() if KEY.encode() in content] == []
