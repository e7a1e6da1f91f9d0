"""Schemathesis compares the schema with the responses of a real server."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.model_server import ModelServer
from llmbatch.tests.fixtures.server import ROOT, Server

pytestmark = pytest.mark.server

SEED = "20261123"
NO_WINDOWS = {f"{lane}_priority": {"window_s": 0} for lane in ("high", "medium", "low")}
# The request that the schema's examples refer to.
KNOWN = {
    "username": "demo",
    "prompt": "Why is the sky blue?",
    "priority": 0,
    "request_id": "sky-1",
    "created_at": "2026-11-23T00:48:14Z",
    "timeout_s": 20,
}


async def test_responses_match_the_schema(tmp_path: Path) -> None:
    async with ModelServer(pace=Pace(0.0, 0.0)) as model:
        with Server(tmp_path, GEMINI_BASE_URL=model.url, API_ACCESS="key") as server:
            key = server.manage("create_api_key", "schemathesis", "--staff").strip()
            async with httpx2.AsyncClient(
                base_url=server.url, headers={"authorization": f"Bearer {key}"}
            ) as client:
                assert (await client.patch("/v1/settings", json=NO_WINDOWS)).is_success
                assert (await client.post("/v1/query", json=KNOWN)).is_success
                document = (await client.get("/v1/schema")).json()
            schema = tmp_path / "schema.json"
            schema.write_text(json.dumps(forbid_unknown_fields(document)))
            # The settings come last, because generated settings would slow the other requests down.
            for choice in ("--exclude-path", "--include-path"):
                await asyncio.to_thread(
                    run_schemathesis, server, key, schema, choice, "/v1/settings"
                )


def forbid_unknown_fields(document: dict[str, Any]) -> dict[str, Any]:
    """Forbids fields in responses that the schema does not list."""
    for name, form in document["components"]["schemas"].items():
        if "properties" in form and not name.endswith("Request"):
            form.setdefault("additionalProperties", False)
    return document


def run_schemathesis(server: Server, key: str, schema: Path, *arguments: str) -> None:
    """Runs schemathesis and asserts that it found no failure."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", server.url),
            *("--header", f"Authorization: Bearer {key}", "--seed", SEED),
            *("--checks", "all", "--suppress-health-check", "all"),
            *("--max-examples", "5", "--request-timeout", "120"),
            *("--output-sanitize", "false", "--output-truncate", "false"),
            *("--generation-database", "none", "--continue-on-failure", "--no-color"),
            *arguments,
        ],
        cwd=server.folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "llmbatch.tests.fixtures.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log[-3000:]
