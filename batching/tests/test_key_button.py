"""The button that tests the model key, on the settings page of the admin."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from batching.process.runtime import Runtime, use_runtime
from batching.store.fleet_status import FleetStatus
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _key(settings):
    settings.GEMINI_API_KEY = "test-key-0123456789"


class AskedModel:
    """Replaces the runtime and its model; testing the key returns `trouble`."""

    def __init__(self, trouble: str) -> None:
        self.trouble = trouble
        self.asked: list[str] = []
        self.model = self.database = self

    test_model_key = Runtime.test_model_key

    async def test_key(self, model: str) -> str:
        self.asked.append(model)
        return self.trouble

    def fleet_status(self) -> FleetStatus:
        return FleetStatus()

    async def run(self, function: Any) -> Any:
        return await sync_to_async(function)()


@pytest.fixture
def asked_model():
    def use(trouble: str = "") -> AskedModel:
        model = AskedModel(trouble)
        use_runtime(model)
        return model

    yield use
    use_runtime(None)


SETTINGS_PAGE = "/admin/settings_app/gatewaysettings/1/change/"


@pytest.mark.parametrize(
    ("trouble", "shown"),
    [("", "accepts the key and knows the model"), ("Bad <key>.", "failed: Bad &lt;key&gt;.")],
)
def test_button_asks_the_model_service_and_shows_its_answer(
    admin_client, asked_model, trouble, shown
):
    model = asked_model(trouble)
    page = admin_client.post("/admin/test-key", follow=True)
    assert model.asked == ["gemini-3.8-flash"]
    assert shown in page.text
    assert page.redirect_chain == [(SETTINGS_PAGE, 302)]


def test_button_without_a_key_makes_no_call(admin_client, asked_model, settings):
    settings.GEMINI_API_KEY = ""
    refresh_snapshot()
    model = asked_model()
    assert "No key is set." in admin_client.post("/admin/test-key", follow=True).text
    assert model.asked == []


def test_button_is_on_the_settings_page_with_a_token(admin_client):
    page = admin_client.get(SETTINGS_PAGE).text
    form = page.partition('action="/admin/test-key">')[2].partition("</form>")[0]
    assert "csrfmiddlewaretoken" in form
    assert "Test the key" in form


def test_key_is_tested_only_by_those_who_may_change_it_and_with_a_token(
    client, asked_model, django_user_model
):
    model = asked_model()
    strict = type(client)(enforce_csrf_checks=True)
    strict.force_login(django_user_model.objects.create_superuser("root"))
    refused = [client.post("/admin/test-key"), strict.post("/admin/test-key")]
    client.force_login(django_user_model.objects.create_user("ann", is_staff=True))
    refused.append(client.post("/admin/test-key"))
    assert model.asked == []
    assert [response.status_code for response in refused] == [403, 403, 403]
    assert strict.get("/admin/test-key").status_code == 405
