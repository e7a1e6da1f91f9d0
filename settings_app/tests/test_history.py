"""The history records author, time, interface and values of each change, and masks the key."""

from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from settings_app.access.api_keys import change_api_key
from settings_app.access.tests.rows import create_api_key
from settings_app.history import ANYONE, Author
from settings_app.models import ApiKey, GatewaySettings, Lane, SettingsChange, Via
from settings_app.services import update_settings
from settings_app.snapshot import refresh_snapshot
from settings_app.tests.admin_forms import save_lane, save_settings
from settings_app.tests.stored import KEY, OTHER_KEY, run_at_once, search_database

CHANGES = "/admin/settings_app/settingschange/"
KEYS = "/admin/settings_app/apikey/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client, settings: Any) -> Client:
    settings.GEMINI_API_KEY = ""
    client.force_login(get_user_model().objects.create_superuser("ann"))
    return client


def patch(client: Client, document: dict[str, Any], **headers: str) -> None:
    answer = client.patch("/v1/settings", document, "application/json", headers=headers)
    assert answer.status_code == 200, answer.content


def read_changes() -> list[tuple[str, ...]]:
    """Returns the recorded changes, the oldest first."""
    columns = ("by", "via", "subject", "field", "before", "after")
    return list(SettingsChange.objects.order_by("id").values_list(*columns))


def test_patch_with_a_staff_key_is_recorded_field_by_field(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "key"
    row, key = create_api_key(name="ops", is_staff=True)
    SettingsChange.objects.all().delete()
    began, style = timezone.now(), Lane.objects.get(priority=0).style
    document = {"retention_days": 30, "high_priority": {"max_batch": 9, "window_s": 0.5}}
    patch(
        client,
        document | {"low_priority": {"style": "Rhyme.\nA lot."}},
        Authorization=f"Bearer {key}",
    )
    assert read_changes() == [
        (f"key {row.prefix}", "api", "Settings", "retention_days", "90", "30"),
        (f"key {row.prefix}", "api", "High priority", "window_s", "0.2", "0.5"),
        (f"key {row.prefix}", "api", "High priority", "max_batch", "6", "9"),
        (f"key {row.prefix}", "api", "Low priority", "style", style, "Rhyme.\nA lot."),
    ]
    assert all(began <= r.changed_at <= timezone.now() for r in SettingsChange.objects.all())


def test_author_under_open_access_is_anyone_or_the_session(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "open"
    patch(client, {"store_prompts": False})
    client.force_login(get_user_model().objects.create_superuser("ann"))
    patch(client, {"store_prompts": True})
    assert read_changes() == [
        (ANYONE, "api", "Settings", "store_prompts", "true", "false"),
        ("ann", "api", "Settings", "store_prompts", "false", "true"),
    ]


def test_admin_and_command_are_distinguished(staff: Client) -> None:
    save_settings(staff, model="gemini-a")
    save_lane(staff, 1, hold_until_checked="on")
    update_settings(model="gemini-b")
    assert read_changes() == [
        ("ann", "admin", "Settings", "model", "", "gemini-a"),
        ("ann", "admin", "Medium priority", "hold_until_checked", "false", "true"),
        ("command", "command", "Settings", "model", "gemini-a", "gemini-b"),
    ]


EVERY_VALUE = {
    "window_s": 0.7,
    "max_batch": 11,
    "tokens": 77,
    "latency_ms": 88,
    "max_queue": 99,
    "queue_share": 40,
    "batch_scope": "client",
    "hold_until_checked": True,
    "style": "Briefly.",
}


def test_every_editable_field_is_recorded() -> None:
    columns = {f.name for f in Lane._meta.fields if f.editable} - {"updated_at"}
    assert set(EVERY_VALUE) == columns, "add the new field to the table above"
    gateway = {"model": "m", "retention_days": 1, "store_prompts": False}
    assert set(gateway) == {f.name for f in GatewaySettings._meta.fields if f.editable} - {
        "id",
        "updated_at",
    }
    update_settings(**gateway, api_key=KEY, lanes={0: EVERY_VALUE})
    assert {row[3] for row in read_changes()} == {*gateway, *EVERY_VALUE, "api_key"}


@pytest.mark.parametrize("again", [1, 2])
def test_change_to_the_same_value_is_not_recorded(again: int) -> None:
    update_settings(model="m", api_key=KEY, lanes={2: {"tokens": 5, "window_s": 1.0}})
    before = read_changes()
    assert before
    for _ in range(again):
        update_settings(model="m", api_key=KEY, lanes={2: {"tokens": 5, "window_s": 1}})
        update_settings(lanes={2: {}})
    assert read_changes() == before


def test_document_sent_back_unchanged_is_not_recorded(client: Client, settings: Any) -> None:
    settings.API_ACCESS, settings.GEMINI_API_KEY = "open", ""
    update_settings(api_key=KEY)
    before = read_changes()
    patch(client, client.get("/v1/settings").json() | {"model": ""})
    assert read_changes() == before


def test_refused_change_is_not_recorded() -> None:
    with pytest.raises(IntegrityError):
        update_settings(model="b", api_key=KEY, lanes={2: {"tokens": 5}, 1: {"max_batch": 101}})
    assert read_changes() == []


def test_only_masks_of_the_model_key_are_recorded(staff: Client) -> None:
    twin = "A-twin-that-ends-as-it-does-" + KEY[-4:]
    save_settings(staff, api_key=KEY)
    save_settings(staff, api_key=twin)
    patch(staff, {"api_key": OTHER_KEY})
    save_settings(staff, clear_key="on")
    masks = [row[4:] for row in read_changes() if row[3] == "api_key"]
    assert masks == [
        ("", "***wxyz"),
        ("***wxyz", "***wxyz"),  # another key all the same
        ("***wxyz", "***1234"),
        ("***1234", ""),
    ]
    pages = [staff.get(CHANGES), staff.get(f"{CHANGES}{SettingsChange.objects.first().pk}/change/")]
    assert "***1234" in pages[0].content.decode()
    for key in (KEY, twin, OTHER_KEY):
        assert search_database(key) == []
        assert not [page for page in pages if key in page.content.decode()]
    assert "settings_app_settingschange" in search_database("***1234")


def test_unreadable_key_is_recorded_as_such() -> None:
    GatewaySettings.objects.update(api_key_encrypted="gAAAA-damaged")
    refresh_snapshot()
    update_settings(api_key=KEY)
    assert read_changes()[0][3:] == ("api_key", "(cannot be decrypted)", "***wxyz")


def test_creation_changes_and_deletion_of_an_api_key_are_recorded(staff: Client) -> None:
    form = {"name": "billing", "owner": "Bo", "is_staff": "on", "requests_per_minute": "5"}
    page = staff.post(f"{KEYS}add/", form, follow=True).content.decode()
    row = ApiKey.objects.get()
    secret = page.partition(f"{row.prefix}.")[2][:32]
    assert len(secret) == 32
    edit = f"{KEYS}{row.pk}/change/"
    staff.post(edit, form)  # unchanged
    fewer = {"name": "billing", "owner": "Bo", "requests_per_minute": "7"}
    staff.post(edit, fewer)
    staff.post(edit, fewer | {"revoked": "on"})
    staff.post(f"{KEYS}{row.pk}/delete/", {"post": "yes"})
    assert not ApiKey.objects.exists()
    subject = f"API key {row.prefix} (billing)"
    described = "client: billing\nname: billing\nowner: Bo\n"
    assert [(by, via) for by, via, *_ in read_changes()] == [("ann", "admin")] * 5
    assert [tuple(rest) for _, _, *rest in read_changes()] == [
        (subject, "created", "", described + "is_staff: true\nrequests_per_minute: 5"),
        (subject, "is_staff", "true", "false"),
        (subject, "requests_per_minute", "5", "7"),
        (subject, "revoked", "false", "true"),
        (subject, "deleted", described + "requests_per_minute: 7\nrevoked: true", ""),
    ]
    assert search_database(secret) == []


def test_keys_deleted_from_the_list_are_recorded_one_by_one(staff: Client) -> None:
    keys = [create_api_key(name=name)[0] for name in ("a", "b")]
    SettingsChange.objects.all().delete()
    chosen = {"action": "delete_selected", "_selected_action": [key.pk for key in keys]}
    staff.post(KEYS, chosen | {"post": "yes"})
    assert not ApiKey.objects.exists()
    assert sorted(row[:4] for row in read_changes()) == sorted(
        ("ann", "admin", f"API key {key.prefix} ({key.name})", "deleted") for key in keys
    )


def test_key_created_by_the_command_is_recorded() -> None:
    call_command("create_api_key", "cron", stdout=StringIO(), stderr=StringIO())
    prefix = ApiKey.objects.get().prefix
    made = ("command", "command", f"API key {prefix} (cron)", "created", "")
    assert read_changes() == [(*made, "client: cron\nname: cron")]


@pytest.mark.django_db(transaction=True)
def test_simultaneous_changes_form_one_chain() -> None:
    def change(tokens: int) -> None:
        update_settings(lanes={1: {"tokens": tokens}}, by=Author(f"user {tokens}", Via.API))

    run_at_once(*(lambda tokens=t: change(tokens) for t in range(1, 9)))
    rows = read_changes()
    assert len(rows) == 8
    assert [row[4] for row in rows[:1]] == ["5000"]
    assert all(earlier[5] == later[4] for earlier, later in pairwise(rows))
    assert all(row[0] == f"user {row[5]}" for row in rows)
    assert rows[-1][5] == str(Lane.objects.get(priority=1).tokens)


def test_history_is_read_only_and_searchable(staff: Client) -> None:
    update_settings(lanes={2: {"tokens": 4321}, 0: {"style": "y" * 500}})
    row = SettingsChange.objects.get(field="tokens")
    for page in ("add/", f"{row.pk}/delete/", f"{row.pk}/change/"):
        assert staff.post(f"{CHANGES}{page}", {"after": "forged", "post": "yes"}).status_code == 403
    staff.post(CHANGES, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert SettingsChange.objects.get(pk=row.pk).after == "4321"
    listed = staff.get(CHANGES).content.decode()
    assert "4321" in listed
    assert "y" * 81 not in listed, "a long value is shown on its own page"
    found = staff.get(CHANGES, {"q": "4321"}).context["cl"].queryset
    assert [change.field for change in found] == ["tokens"]


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        ("gatewaysettings/1/change/", ["model"]),
        ("lane/2/change/", ["tokens"]),
        ("lane/", ["tokens", "window_s"]),
        ("apikey/{key}/change/", ["created"]),
    ],
)
def test_pages_link_to_their_own_changes(staff: Client, page: str, fields: list[str]) -> None:
    update_settings(model="m", lanes={2: {"tokens": 1}, 1: {"window_s": 3}})
    key, _ = create_api_key(name="a&b =c")
    create_api_key(name="other")
    html = staff.get("/admin/settings_app/" + page.format(key=key.pk)).content.decode()
    link = html.partition('class="historylink" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert link.startswith(CHANGES)
    rows = staff.get(link).context["cl"].queryset
    assert sorted(row.field for row in rows) == fields


def test_staff_without_the_permission_see_no_history(client: Client) -> None:
    client.force_login(get_user_model().objects.create_user("bob", is_staff=True))
    assert client.get(CHANGES).status_code == 403


@pytest.mark.django_db
def test_edit_begun_before_a_revocation_leaves_the_key_revoked():
    row, _ = create_api_key(name="a")
    editor, revoker = ApiKey.objects.get(pk=row.pk), ApiKey.objects.get(pk=row.pk)
    by = Author("ann", Via.ADMIN)
    revoker.revoked = True
    assert change_api_key(revoker, ["revoked"], by=by)
    editor.owner = "Bo"
    assert change_api_key(editor, ["owner"], by=by)
    stored = ApiKey.objects.get()
    assert (stored.revoked, stored.owner) == (True, "Bo")
    fields = SettingsChange.objects.order_by("id").values_list("field", flat=True)
    assert list(fields) == ["created", "revoked", "owner"]


@pytest.mark.django_db
def test_edit_of_a_deleted_key_changes_nothing():
    row, _ = create_api_key(name="a")
    editor = ApiKey.objects.get(pk=row.pk)
    ApiKey.objects.all().delete()
    assert not change_api_key(editor, ["owner"], by=Author("ann", Via.ADMIN))
    assert not ApiKey.objects.exists()
