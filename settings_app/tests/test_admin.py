"""The admin pages of the key, the model and the lanes."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client

from settings_app.crypto import encrypt
from settings_app.models import ApiClient, GatewaySettings, Lane
from settings_app.snapshot import current_snapshot, refresh_snapshot
from settings_app.tests.admin_forms import SETTINGS_PAGE, lane_page, save_lane, save_settings
from settings_app.tests.stored import KEY, OTHER_KEY

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client, settings: Any) -> Client:
    settings.GEMINI_API_KEY = ""
    client.force_login(get_user_model().objects.create_superuser("ann"))
    return client


def store_key(key: str) -> None:
    GatewaySettings.objects.update(api_key_encrypted=encrypt(key))
    refresh_snapshot()


def stored_key() -> str | None:
    return refresh_snapshot().api_key


def test_saved_key_and_model_are_used(staff: Client) -> None:
    save_settings(staff, api_key=KEY, model="gemini-a")
    snapshot = refresh_snapshot()
    assert (snapshot.api_key, snapshot.model) == (KEY, "gemini-a")
    assert KEY not in GatewaySettings.objects.get().api_key_encrypted


def test_empty_key_field_keeps_the_stored_key(staff: Client) -> None:
    store_key(KEY)
    save_settings(staff, model="gemini-b")
    assert stored_key() == KEY
    assert refresh_snapshot().model == "gemini-b"


def test_mask_in_the_key_field_keeps_the_stored_key(staff: Client) -> None:
    store_key(KEY)
    save_settings(staff, api_key="***wxyz", model="gemini-c")
    assert stored_key() == KEY
    assert refresh_snapshot().model == "gemini-c"


def test_checkbox_clears_the_key(staff: Client) -> None:
    store_key(KEY)
    save_settings(staff, clear_key="on")
    assert GatewaySettings.objects.get().api_key_encrypted == ""
    assert stored_key() is None


def test_new_key_together_with_the_checkbox_is_refused(staff: Client) -> None:
    store_key(KEY)
    response = save_settings(staff, api_key=OTHER_KEY, clear_key="on")
    assert stored_key() == KEY
    assert "not both" in response.content.decode()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"api_key": "with space"}, "visible ASCII"),
        ({"api_key": "x" * 201}, "at most 200"),
        ({"api_key": "***abcd"}, "mask of another key"),
        ({"model": "a/../b"}, "not a model"),
        ({"model": "x" * 101}, "at most 100"),
    ],
)
def test_bad_value_is_explained_and_nothing_changes(
    staff: Client, fields: dict[str, str], reason: str
) -> None:
    store_key(KEY)
    before = GatewaySettings.objects.values().get()
    response = save_settings(staff, **fields)
    assert GatewaySettings.objects.values().get() == before
    assert reason in response.content.decode()


def test_key_is_in_no_page_no_error_and_no_history(staff: Client) -> None:
    pages = [
        save_settings(staff, api_key=KEY),
        save_settings(staff, api_key=OTHER_KEY, model="not a model"),
        save_settings(staff, api_key=OTHER_KEY + " spoilt"),
        staff.get(SETTINGS_PAGE),
        staff.get("/admin/settings_app/gatewaysettings/1/history/"),
        staff.get("/admin/"),
    ]
    html = "".join(page.content.decode() for page in pages)
    history = repr(list(LogEntry.objects.values()))
    assert "***wxyz" in html
    assert "Api key" in history or "API key" in history
    for key in (KEY, OTHER_KEY):
        assert key not in html + history
    assert GatewaySettings.objects.get().api_key_encrypted not in html + history


def test_page_says_where_the_key_comes_from(staff: Client, settings: Any) -> None:
    assert "No key is set." in staff.get(SETTINGS_PAGE).content.decode()
    settings.GEMINI_API_KEY = OTHER_KEY
    refresh_snapshot()
    assert "***1234, from GEMINI_API_KEY" in staff.get(SETTINGS_PAGE).content.decode()
    store_key(KEY)
    assert "***wxyz, stored here" in staff.get(SETTINGS_PAGE).content.decode()


def test_page_names_a_key_that_cannot_be_decrypted(staff: Client) -> None:
    GatewaySettings.objects.update(api_key_encrypted="gAAAA-damaged")
    refresh_snapshot()
    assert "cannot be decrypted" in staff.get(SETTINGS_PAGE).content.decode()


def test_list_of_the_only_row_redirects_to_the_row(staff: Client) -> None:
    response = staff.get("/admin/settings_app/gatewaysettings/")
    assert response["Location"] == SETTINGS_PAGE


def test_every_value_of_a_lane_can_be_changed(staff: Client) -> None:
    values = {
        "window_s": 0.5,
        "max_batch": 100,
        "tokens": 65_536,
        "latency_ms": 1,
        "max_queue": 5,
        "queue_share": 33,
        "batch_scope": "client",
        "style": "Reply in verse.",
    }
    save_lane(staff, 0, **values)
    lane = refresh_snapshot().lanes[0]
    assert {name: getattr(lane, name) for name in values} == values


def read_form(staff: Client, page: str) -> dict[str, Any]:
    """Returns the fields that a browser would send for an unchanged form."""
    form = staff.get(page).context["adminform"].form
    fields = {form[name].html_name: form[name].value() for name in form.fields}
    initial = {
        form[name].html_initial_name: form[name].value()
        for name, field in form.fields.items()
        if field.show_hidden_initial
    }
    return {name: value or "" for name, value in (fields | initial).items() if value is not False}


def test_lane_saved_from_an_older_page_keeps_the_changes_of_another_user(staff: Client) -> None:
    page = read_form(staff, lane_page(2))
    save_lane(staff, 2, tokens=999)
    staff.post(lane_page(2), page | {"window_s": 0.9})
    lane = refresh_snapshot().lanes[2]
    assert (lane.window_s, lane.tokens, lane.max_batch) == (0.9, 999, 6)


def test_key_saved_from_an_older_page_keeps_the_model_of_another_user(staff: Client) -> None:
    page = read_form(staff, SETTINGS_PAGE)
    save_settings(staff, model="gemini-of-another")
    staff.post(SETTINGS_PAGE, page | {"api_key": KEY})
    snapshot = refresh_snapshot()
    assert (snapshot.api_key, snapshot.model) == (KEY, "gemini-of-another")


def test_saved_lane_raises_the_version(staff: Client) -> None:
    before = refresh_snapshot().version
    save_lane(staff, 2, max_batch=7)
    assert refresh_snapshot().version == before + 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"window_s": "nan"}, "Enter a number."),
        ({"window_s": "inf"}, "Enter a number."),
        ({"window_s": "3601"}, "less than or equal to 3600"),
        ({"max_batch": "0"}, "greater than or equal to 1"),
        ({"max_batch": "1.5"}, "Enter a whole number."),
        ({"max_batch": "101"}, "less than or equal to 100"),
        ({"tokens": "65537"}, "less than or equal to 65536"),
        ({"latency_ms": "0"}, "greater than or equal to 1"),
        ({"max_queue": "0"}, "greater than or equal to 1"),
        ({"batch_scope": "nobody"}, "not one of the available choices"),
        ({"style": ""}, "This field is required."),
        ({"style": "x" * 2001}, "at most 2000"),
        ({"style": "a\0b"}, "Null characters are not allowed."),
    ],
)
def test_bad_lane_is_explained_and_nothing_changes(
    staff: Client, fields: dict[str, str], reason: str
) -> None:
    before = list(Lane.objects.values())
    response = save_lane(staff, 2, **fields)
    assert list(Lane.objects.values()) == before
    assert reason in response.content.decode()


@pytest.mark.parametrize(("model", "pk"), [("gatewaysettings", 1), ("lane", 2), ("apiclient", 1)])
def test_rows_can_be_neither_added_nor_deleted(staff: Client, model: str, pk: int) -> None:
    assert staff.post(f"/admin/settings_app/{model}/add/", {}).status_code == 403
    deletion = staff.post(f"/admin/settings_app/{model}/{pk}/delete/", {"post": "yes"})
    assert deletion.status_code == 403
    assert GatewaySettings.objects.count() == 1
    assert Lane.objects.count() == 3
    assert ApiClient.objects.count() == 1


def test_lanes_are_listed_with_their_values(staff: Client) -> None:
    html = staff.get("/admin/settings_app/lane/").content.decode()
    assert html.index("High priority") < html.index("Medium priority") < html.index("Low priority")


def test_clients_are_shown_and_cannot_be_changed(staff: Client) -> None:
    assert "open access" in staff.get("/admin/settings_app/apiclient/").content.decode()
    staff.post("/admin/settings_app/apiclient/1/change/", {"name": "renamed"})
    assert ApiClient.objects.get().name == "open access"


@pytest.mark.django_db(transaction=True)
def test_saved_lane_applies_in_this_process_at_once(staff: Client) -> None:
    assert current_snapshot().lanes[2].max_batch == 6
    save_lane(staff, 2, max_batch=8)
    assert current_snapshot().lanes[2].max_batch == 8


@pytest.mark.django_db(transaction=True)
def test_saved_key_applies_in_this_process_at_once(staff: Client) -> None:
    assert current_snapshot().api_key is None
    save_settings(staff, api_key=KEY)
    assert current_snapshot().api_key == KEY


def test_retention_and_prompt_storage_are_edited_beside_the_key(staff: Client) -> None:
    save_settings(staff, retention_days=7, store_prompts="")
    assert (refresh_snapshot().retention_days, refresh_snapshot().store_prompts) == (7, False)
    save_settings(staff, store_prompts="on")
    assert (refresh_snapshot().retention_days, refresh_snapshot().store_prompts) == (7, True)


@pytest.mark.parametrize("days", [-1, 36_501, "x", ""])
def test_bad_retention_is_explained_and_nothing_changes(staff: Client, days: Any) -> None:
    before = GatewaySettings.objects.values().get()
    response = save_settings(staff, retention_days=days, store_prompts="")
    assert GatewaySettings.objects.values().get() == before
    assert "errorlist" in response.content.decode()


def test_retention_changed_by_another_user_is_not_overwritten(staff: Client) -> None:
    GatewaySettings.objects.update(retention_days=5)
    save_settings(staff, model="gemini-a", retention_days=90, **{"initial-retention_days": 90})
    assert (refresh_snapshot().retention_days, refresh_snapshot().model) == (5, "gemini-a")
