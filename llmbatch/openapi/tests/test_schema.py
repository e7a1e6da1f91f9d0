"""/v1/schema is complete and valid, matches its own examples, and is open to everybody."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.core.management import call_command
from drf_spectacular.generators import EndpointEnumerator

from llmbatch.openapi.operations.settings import DOCUMENT as SETTINGS
from llmbatch.openapi.views import format_schema
from llmbatch.routes import ROUTES

API = (Path(__file__).resolve().parents[3] / "docs/api.md").read_text()
# Paths below /v1 that are not endpoints.
PAGES = {"/v1/docs"}
OPENAI = ("/v1/chat/completions", "/v1/models")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(format_schema("json"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def list_endpoints(urlconf: str) -> dict[tuple[str, str], type]:
    endpoints = EndpointEnumerator(urlconf=urlconf).get_api_endpoints()
    return {(path, method): callback.cls for path, _, method, callback in endpoints}


def list_served() -> dict[tuple[str, str], type]:
    async_endpoints = {
        (route.path, method): route.view
        for route in ROUTES
        if route.is_async
        for method in route.view().allowed_methods
        if method != "OPTIONS"
    }
    return {**async_endpoints, **list_endpoints("llmbatch.urls")}


def test_exactly_the_served_endpoints_are_described(document):
    served = list_served()
    assert {(path, method) for path, method, _ in operations(document)} == set(served)
    described = list_endpoints("llmbatch.openapi.urls")
    assert {name for name in served if not issubclass(described[name], served[name])} == set()


def test_api_document_lists_exactly_the_described_paths(document):
    table = API.partition("\n## ")[0]
    rows = re.findall(r"^\| (?:GET|POST|PUT|PATCH|DELETE)[A-Z, ]* (`/.*?) \|", table, re.M)
    documented = {path for row in rows for path in re.findall(r"`(.+?)`", row)}
    assert documented == {*document["paths"], *PAGES}


def test_spectacular_command_has_no_warnings(tmp_path, document):
    file = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(file))
    assert yaml.safe_load(file.read_text()) == document


def test_every_error_has_the_same_form_and_an_example(document):
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            assert set(response["content"]) == {"application/json"}
            content = response["content"]["application/json"]
            form = "OpenAIError" if path.startswith(OPENAI) else "Error"
            form = "NotReady" if path == "/health/ready" else form
            assert content["schema"] == {"$ref": f"#/components/schemas/{form}"}, (path, method)
            assert all(name in response["description"] for name in codes_of(content))
            if status in ("429", "503"):
                assert response["headers"]["Retry-After"]["required"]


def codes_of(content: dict[str, Any]) -> set[str]:
    values = [example["value"] for example in content["examples"].values()]
    codes = {value.get("error", value)["code"] for value in values}
    assert codes
    return codes - {"not_ready"}


def test_operations_that_need_a_key_declare_it(document):
    for path, _, operation in operations(document):
        open_to_all = path.startswith("/health") or path == "/v1/schema"
        schemes = [] if open_to_all else [{"apiKey": []}, {"session": []}]
        assert operation.get("security", []) == schemes
        assert ("401" in operation["responses"]) is not open_to_all


def test_every_example_is_valid_against_its_schema(document):
    found = 0
    for path, method, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for kind, content in ((k, c) for b in bodies for k, c in b.get("content", {}).items()):
            without_example = path == "/v1/schema" or kind == "application/openmetrics-text"
            assert "examples" in content or without_example, (path, method, kind)
            form = content["schema"] | {"components": document["components"]}
            for example in content.get("examples", {}).values():
                for value in values_of(example, kind):
                    jsonschema.Draft202012Validator(form).validate(value)
                    found += 1
    assert found > 50


def values_of(example: dict[str, Any], kind: str) -> list[Any]:
    """Returns the values that the schema describes: each event of a stream, else the example."""
    if kind != "text/event-stream":
        return [example["value"]]
    frames = example["value"].split("\n\n")
    assert frames.pop() == ""
    return [{"data": frame.removeprefix("data: ")} for frame in frames]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("SettingsRequest", {"api_key": ""}),
        ("SettingsRequest", {"api_key": None, "api_key_source": None, "api_key_problem": "gone"}),
        ("SettingsRequest", {"model": ""}),
        ("SettingsRequest", SETTINGS),
        ("QueryRequest", {"username": "ann", "prompt": "Why?", "request_id": ""}),
        ("QueryRequest", {"username": "ann", "prompt": "Why?", "request_id": None}),
        ("QueryRequest", {"username": "ann", "prompt": "Why?", "priority": "LOW"}),
    ],
)
def test_bodies_that_the_server_accepts_are_valid(document, form, value):
    """`oneOf` would reject a value that matches two of its branches."""
    check(document, form, value)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("SettingsRequest", {"apikey": "a"}),
        ("SettingsRequest", {"high_priority": {"window": 1}}),
        ("SettingsRequest", {"model": "a model"}),
        ("QueryRequest", {"username": "ann", "prompt": " "}),
        ("QueryRequest", {"username": "ann", "prompt": "Why?", "priority": 3}),
    ],
)
def test_bodies_that_the_server_rejects_are_invalid(document, form, value):
    with pytest.raises(jsonschema.ValidationError):
        check(document, form, value)


def check(document: dict[str, Any], form: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{form}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("access", ["key", "open"])
def test_schema_is_open_to_everybody(client, settings, access):
    settings.API_ACCESS = access
    response = client.get("/v1/schema")
    assert response["Content-Type"] == "application/json"
    assert response.json()["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("?format=yaml", "*/*"),
        ("", "application/yaml"),
        ("", "application/vnd.oai.openapi+yaml;version=3.1"),
        ("?format=", "text/yaml, */*;q=0.1"),
    ],
)
def test_parameter_or_accept_header_selects_yaml(client, document, query, accept):
    response = client.get(f"/v1/schema{query}", headers={"accept": accept})
    assert response["Content-Type"] == "application/yaml"
    assert "Accept" in response["Vary"]
    assert yaml.safe_load(response.content) == document


def test_parameter_overrides_the_header_and_rejects_unknown_formats(client):
    response = client.get("/v1/schema?format=json", headers={"accept": "application/yaml"})
    assert response["Content-Type"] == "application/json"
    response = client.get("/v1/schema?format=xml")
    assert response.status_code == 400
    assert response.json()["errors"] == {"format": ["Must be json or yaml."]}


def test_document_is_cached():
    assert format_schema("json") is format_schema("json")
