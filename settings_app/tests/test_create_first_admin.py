"""The command `./gateway create_first_admin`."""

import re
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

pytestmark = pytest.mark.django_db

User = get_user_model()


def run() -> str:
    out = StringIO()
    call_command("create_first_admin", stdout=out)
    return out.getvalue()


def test_printed_password_logs_in_to_the_admin(client: Client) -> None:
    password = re.search(r"password (\S{16})", run())[1]
    assert client.login(username="admin", password=password)
    assert client.get("/admin/").status_code == 200


def test_second_run_is_quiet_and_changes_nothing() -> None:
    run()
    before = User.objects.values().get()
    assert run() == ""
    assert User.objects.values().get() == before


def test_any_superuser_prevents_another() -> None:
    User.objects.create_superuser("root-of-all")
    assert run() == ""
    assert [user.username for user in User.objects.all()] == ["root-of-all"]


def test_two_first_admins_have_different_passwords() -> None:
    first = run()
    User.objects.all().delete()
    assert run() != first


def test_taken_name_is_reported_and_its_user_unchanged() -> None:
    User.objects.create_user("admin")
    with pytest.raises(CommandError, match="createsuperuser"):
        run()
    assert not User.objects.get().is_superuser
