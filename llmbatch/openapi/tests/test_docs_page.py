"""/v1/docs: the schema as a page, bound by the same policy as every other."""

import re

import pytest
from django.contrib.staticfiles import finders

from llmbatch.middleware.content_security import CONTENT_SECURITY_POLICY
from llmbatch.tests.fixtures.page_policy import FOREIGN, INLINE, SCRIPT

pytestmark = pytest.mark.django_db  # the banner asks how the model fares


@pytest.mark.parametrize("access", ["key", "open"])
def test_page_is_open_to_everybody_under_the_usual_policy(client, settings, access):
    settings.API_ACCESS = access
    response = client.get("/v1/docs")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    for pattern in (INLINE, SCRIPT, FOREIGN):
        assert not pattern.search(response.text), pattern


def test_page_names_the_schema_and_local_files_that_exist(client):
    text = client.get("/v1/docs").text
    assert 'data-schema="/v1/schema"' in text
    files = re.findall(r'(?:src|href)="/static/([^"]+)"', text)
    assert {name.rpartition(".")[2] for name in files} == {"js", "css", "svg"}
    assert [name for name in files if not finders.find(name)] == []


def test_page_refuses_other_methods_in_the_one_form(client):
    response = client.post("/v1/docs")
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert "GET" in response["Allow"]
