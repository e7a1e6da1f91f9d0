"""Fixtures that read and change the settings over HTTP."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

Call = Callable[..., Any]


@pytest.fixture
def open_access(settings: Any) -> None:
    settings.API_ACCESS = "open"
    settings.GEMINI_API_KEY = ""


@pytest.fixture
def read(client: Client) -> Call:
    return lambda: client.get("/v1/settings").json()


@pytest.fixture(params=["PATCH", "PUT"])
def change(client: Client, request: pytest.FixtureRequest) -> Call:
    def send(body: Any) -> Any:
        return client.generic(request.param, "/v1/settings", json.dumps(body), "application/json")

    return send
