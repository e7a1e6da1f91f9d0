"""/v1/docs shows the schema under the content security policy of all pages."""

import re

import pytest
from django.contrib.staticfiles import finders

from llmbatch.middleware.content_security import CONTENT_SECURITY_POLICY
from llmbatch.tests.fixtures.page_policy import FOREIGN, INLINE, SCRIPT

pytestmark = pytest.mark.django_db  # the banner reads the state of the model


@pytest.mark.parametrize("access", ["key", "open"])
def test_page_is_open_to_everybody_under_the_policy_of_all_pages(client, settings, access):
    settings.API_ACCESS = access
    response = client.get("/v1/docs")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    for pattern in (INLINE, SCRIPT, FOREIGN):
        assert not pattern.search(response.text), pattern


def test_page_links_the_schema_and_local_files_that_exist(client):
    text = client.get("/v1/docs").text
    assert 'data-schema="/v1/schema"' in text
    files = re.findall(r'(?:src|href)="/static/([^"]+)"', text)
    assert {name.rpartition(".")[2] for name in files} == {"js", "css", "svg"}
    assert [name for name in files if not finders.find(name)] == []


def test_other_methods_get_an_error_in_the_form_of_the_api(client):
    response = client.post("/v1/docs")
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert "GET" in response["Allow"]
