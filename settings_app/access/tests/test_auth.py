"""Permissions and origins of requests that read or write the settings."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from settings_app.access.tests.rows import create_api_key
from settings_app.models import GatewaySettings
from settings_app.snapshot import refresh_snapshot

HOME = "http://testserver"
LISTED = "https://listed.example"
FOREIGN = ["https://evil.example", "null", "", "http://[", "http://testserver.evil.example", "x"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _listed_origin(settings: Any) -> None:
    settings.API_ACCESS = "open"
    settings.CORS_ALLOWED_ORIGINS = [LISTED]


def write(client: Client, **headers: str) -> Any:
    return client.patch("/v1/settings", {"model": "written"}, "application/json", headers=headers)


def was_written() -> bool:
    return GatewaySettings.objects.get().model == "written"


def login(
    client: Client, *, staff: bool, active: bool = True, may: str = "gatewaysettings"
) -> Client:
    """`may` names the models of this app, separated by spaces, that the user may change."""
    user = get_user_model().objects.create_user("ann", is_staff=staff, is_active=active)
    names = [f"change_{model}" for model in may.split()]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return client


def test_open_access_lets_everybody_write(client: Client) -> None:
    assert write(client).status_code == 200
    assert was_written()


def test_closed_gateway_asks_an_anonymous_client_to_log_in(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "key"
    for response in (client.get("/v1/settings"), write(client)):
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Bearer"
        assert response.json()["code"] == "not_authenticated"
        assert "high_priority" not in response.json()
    assert not was_written()


def test_closed_gateway_refuses_a_user_who_is_not_staff(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "key"
    login(client, staff=False)
    for response in (client.get("/v1/settings"), write(client)):
        assert response.status_code == 403
        assert response.json()["code"] == "permission_denied"
    assert not was_written()


def test_closed_gateway_treats_a_disabled_account_as_anonymous(
    client: Client, settings: Any
) -> None:
    settings.API_ACCESS = "key"
    login(client, staff=True, active=False)
    assert client.get("/v1/settings").status_code == 401


def test_staff_may_write_on_a_closed_gateway(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "key"
    assert write(login(client, staff=True)).status_code == 200
    assert was_written()


GATEWAY, LANE = {"model": "written"}, {"low_priority": {"max_batch": 3}}


@pytest.mark.parametrize(
    ("may", "document", "refused"),
    [
        ("", GATEWAY, "gateway settings"),
        ("", {"api_key": ""}, "gateway settings"),
        ("", {"store_prompts": False}, "gateway settings"),
        ("", LANE, "lanes"),
        ("lane", GATEWAY, "gateway settings"),
        ("gatewaysettings", LANE, "lanes"),
        ("lane", GATEWAY | LANE, "gateway settings"),
        ("gatewaysettings", GATEWAY | LANE, "lanes"),
        ("gatewaysettings", GATEWAY, ""),
        ("lane", LANE, ""),
        ("gatewaysettings lane", GATEWAY | LANE, ""),
        ("", {}, ""),
        ("", {"high_priority": {}}, ""),
    ],
)
def test_api_refuses_changes_that_the_admin_refuses(
    client: Client, settings: Any, may: str, document: dict[str, Any], refused: str
) -> None:
    settings.API_ACCESS = "key"
    login(client, staff=True, may=may)
    pages = {"gateway settings": "gatewaysettings/1", "lanes": "lane/0"}
    before = client.get("/v1/settings").json()
    for method in (client.patch, client.put):
        response = method("/v1/settings", document, "application/json")
        assert response.status_code == (403 if refused else 200)
        if refused:
            assert refused in response.json()["detail"]
            page = f"/admin/settings_app/{pages[refused]}/change/"
            assert client.post(page, {}).status_code == 403
            assert client.get("/v1/settings").json() == before


def test_superuser_and_staff_key_may_change_everything(client: Client, settings: Any) -> None:
    settings.API_ACCESS = "key"
    _, key = create_api_key(name="ops", is_staff=True)
    bearer = {"Authorization": f"Bearer {key}"}
    document = GATEWAY | LANE
    assert (
        client.patch("/v1/settings", document, "application/json", headers=bearer).json()[
            "low_priority"
        ]["max_batch"]
        == 3
    )
    client.force_login(get_user_model().objects.create_superuser("root"))
    assert client.patch("/v1/settings", document, "application/json").status_code == 200


@pytest.mark.parametrize("access", ["open", "key"])
def test_session_without_a_csrf_token_writes_nothing(settings: Any, access: str) -> None:
    settings.API_ACCESS = access
    client = login(Client(enforce_csrf_checks=True), staff=True)
    response = write(client)
    assert not was_written()
    assert response.status_code == 403
    assert response.json()["code"] == "permission_denied"


def test_session_with_a_csrf_token_writes(settings: Any) -> None:
    settings.API_ACCESS = "key"
    client = login(Client(enforce_csrf_checks=True), staff=True)
    client.get("/admin/login/")
    client.get("/admin/password_change/")
    token = client.cookies["csrftoken"].value
    assert write(client, X_CSRFToken=token).status_code == 200
    assert was_written()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--x"),
        ("application/x-www-form-urlencoded; charset=latin-1", b"a=1"),
        ("application/x-www-form-urlencoded", b"&".join(b"%d=1" % n for n in range(2000))),
    ],
)
def test_csrf_check_of_a_session_parses_no_form(
    settings: Any, content_type: str, body: bytes
) -> None:
    settings.API_ACCESS = "key"
    client = login(Client(enforce_csrf_checks=True), staff=True)
    client.cookies["csrftoken"] = token = "a" * 32
    response = client.generic(
        "POST", "/v1/settings", body, content_type, headers={"X-CSRFToken": token}
    )
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("access", ["open", "key"])
@pytest.mark.parametrize("origin", FOREIGN)
def test_page_of_another_origin_writes_nothing(
    client: Client, settings: Any, origin: str, access: str
) -> None:
    settings.API_ACCESS = access
    response = write(login(client, staff=True), origin=origin)
    assert not was_written()
    assert response.status_code == 403
    assert response.json()["code"] == "permission_denied"
    assert "CORS_ALLOWED_ORIGINS" in response.json()["detail"]


def test_foreign_origin_without_a_session_is_403_too(client: Client, settings: Any) -> None:
    for access in ("open", "key"):
        settings.API_ACCESS = access
        assert write(client, origin="https://evil.example").status_code == 403
    assert not was_written()


def test_wildcard_of_debug_mode_allows_no_writes(client: Client, settings: Any) -> None:
    settings.CORS_ALLOW_ALL_ORIGINS = True
    settings.CORS_ALLOWED_ORIGINS = []
    assert write(client, origin="https://evil.example").status_code == 403
    assert not was_written()


@pytest.mark.parametrize("origin", [HOME, "https://testserver", "HTTP://TESTSERVER", LISTED])
def test_own_host_and_listed_origins_may_write(client: Client, origin: str) -> None:
    assert write(client, origin=origin).status_code == 200
    assert was_written()


def test_another_port_of_the_own_host_is_another_origin(client: Client) -> None:
    assert write(client, origin="http://testserver:9000").status_code == 403
    assert not was_written()


def test_foreign_origin_may_read_an_open_gateway(client: Client) -> None:
    response = client.get("/v1/settings", headers={"origin": "https://evil.example"})
    assert response.json()["model"] == refresh_snapshot().model


def test_preflight_of_a_listed_origin_allows_patch(client: Client) -> None:
    headers = {"origin": LISTED, "access-control-request-method": "PATCH"}
    response = client.options("/v1/settings", headers=headers)
    assert response["Access-Control-Allow-Origin"] == LISTED
    assert "PATCH" in response["Access-Control-Allow-Methods"]
