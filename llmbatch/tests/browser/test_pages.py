"""Every page logs no console errors, loads only own files, is accessible and fits a phone."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from llmbatch.tests.fixtures.browser import browser_marks, find_faults, follow, open_page
from llmbatch.tests.fixtures.page_actions import LANES, PASSWORD, create_admin, log_in
from llmbatch.tests.fixtures.server import Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]

OWN_PAGES = [
    "/dashboard?days=30",
    "/chats?limit=10",
    "/chats?status=lost",
    "/chats?search=the&limit=5",
    "/batches",
    "/live",
    "/playground",
    "/nothing",
]
DOCS = "/v1/docs"
ADMIN_PAGES = [
    "/admin/",
    LANES,
    f"{LANES}2/change/",
    "/admin/settings_app/gatewaysettings/1/change/",
    "/admin/settings_app/settingschange/",
    "/admin/settings_app/apikey/",
    "/admin/settings_app/apikey/add/",
    "/admin/settings_app/apiclient/",
    "/admin/chats/chat/",
    "/admin/chats/chat/100/change/",
    "/admin/batching/batch/?q=100",
    "/admin/batching/modelcall/?q=100",
    "/admin/batching/modelcall/100/change/",
    "/admin/batching/dailystat/?priority__exact=2",
    "/admin/axes/accessattempt/",
    "/admin/auth/user/1/change/",
    "/admin/auth/user/add/",
    "/admin/auth/group/add/",
    "/admin/password_change/",
]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
# Pages that are not checked in the dark theme, because others there look the same.
SAME_IN_THE_DARK = {path for path in ADMIN_PAGES if "/batching/" in path or "/add/" in path} | {
    "/admin/settings_app/apiclient/",
    "/admin/axes/accessattempt/",
    "/chats?search=the&limit=5",
}
CONTRAST_ONLY = {"runOnly": ["color-contrast"]}
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pages")
    with Server(folder, GEMINI_API_KEY="", DJANGO_SUPERUSER_PASSWORD=PASSWORD) as server:
        create_admin(server)
        server.manage("seed_demo", "--chats", "2000", "--weeks", "2")
        yield server


async def visit(
    browser: Browser, server: Server, paths: list[str], *, staff: bool, dark: bool = True
) -> list[str]:
    """Opens each page in the light and the dark theme and on a phone, and returns all faults."""
    faults: list[str] = []
    async with open_page(browser, reduced_motion="reduce", viewport=DESK) as (page, complaints):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        if staff:
            await page.goto(f"{server.url}/admin/login/")
            faults += [f"login: {fault}" for fault in await find_faults(page)]
            await log_in(page, server)
        for path in paths:
            complaints.clear()
            response = await page.goto(server.url + path)
            await page.wait_for_load_state("networkidle" if path == DOCS else "load")
            # The console also reports the status of the page itself, which is not a fault here.
            faults += [f"{path}: {c}" for c in complaints if response.ok or "status of 4" not in c]
            if response.status >= 500:
                faults.append(f"{path}: {response.status}")
            faults += [f"{path}: {fault}" for fault in await find_faults(page)]
            if dark and path not in SAME_IN_THE_DARK:
                await page.emulate_media(color_scheme="dark")
                dark_faults = await find_faults(page, **CONTRAST_ONLY)
                faults += [f"{path} in the dark: {fault}" for fault in dark_faults]
            await page.set_viewport_size(PHONE)
            width, room = await page.evaluate(WIDTH)
            if width > room:
                faults.append(f"{path}: {width} px in {room}")
            await page.emulate_media(color_scheme="light")
            await page.set_viewport_size(DESK)
        assert hosts == {urlsplit(server.url).netloc}
    return faults


async def test_pages_without_data_are_readable(browser: Browser, tmp_path: Path) -> None:
    pages = ["/dashboard", "/chats", "/batches", "/live", "/playground"]
    with Server(tmp_path, GEMINI_API_KEY="") as server:
        assert await visit(browser, server, pages, staff=False, dark=False) == []


async def test_every_page_is_readable_and_fits_a_phone(browser: Browser, seeded: Server) -> None:
    batch = await find_batch(browser, seeded)
    record = f"/admin/batching/batch/{batch.rpartition('/')[2]}/change/"
    pages = [*OWN_PAGES, batch, DOCS, *ADMIN_PAGES, record]
    assert await visit(browser, seeded, pages, staff=True) == []


async def find_batch(browser: Browser, server: Server) -> str:
    """The page of a batch with a failed request."""
    async with open_page(browser) as (page, _):
        await page.goto(f"{server.url}/chats?error_code=any")
        return await page.get_attribute('.facts a[href^="/batches/"]', "href")


async def test_timestamps_are_in_the_viewers_zone_and_the_title_keeps_utc(
    browser: Browser, seeded: Server
) -> None:
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await page.goto(f"{seeded.url}/chats")
        shown = page.locator(".chats time").first
        iso, title = await shown.get_attribute("datetime"), await shown.get_attribute("title")
        there = await page.evaluate("iso => Date.parse(iso) + 5.5 * 3600e3", iso)
        local = await page.evaluate("ms => new Date(ms).toISOString()", there)
        assert await shown.text_content() == local[:19].replace("T", " ")
        assert title == f"{iso[:19].replace('T', ' ')} UTC"


async def test_admin_lists_show_the_viewers_zone(browser: Browser, seeded: Server) -> None:
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}/admin/chats/chat/")
        cell = page.locator("td.field-received_at").first
        assert (await cell.get_attribute("title")).endswith(" UTC")
        assert await cell.text_content() != (await cell.get_attribute("title"))[:19]


async def test_filter_takes_timestamps_of_the_viewers_zone(
    browser: Browser, seeded: Server
) -> None:
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await page.goto(f"{seeded.url}/chats?from=2026-01-01T00:00:00")
        field = page.get_by_label("From (Asia/")  # Kolkata, or Calcutta by its older name
        assert await field.input_value() == "2026-01-01T05:30"
        await field.fill("2026-01-02T00:00")
        await follow(page.locator("text=Show").first)
        assert "from=2026-01-01T18%3A30%3A00&" in page.url
        assert await field.input_value() == "2026-01-02T00:00"


async def test_year_with_five_digits_is_not_sent(browser: Browser, seeded: Server) -> None:
    async with open_page(browser) as (page, complaints):
        await page.goto(f"{seeded.url}/batches?from=2026-05-05T10:00:00")
        field = page.locator("input[data-utc]").first
        await field.evaluate(
            "field => { field.value = '20261-05-05T10:00';"
            " field.dispatchEvent(new Event('input')); }"
        )
        assert await page.locator('[name="from"]').input_value() == ""
        assert not await field.evaluate("field => field.checkValidity()")
        assert complaints == []


async def test_key_expires_at_the_time_that_the_viewer_entered(
    browser: Browser, seeded: Server
) -> None:
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}/admin/settings_app/apikey/add/")
        await page.fill("#id_name", "program")
        await page.fill("#id_expiry_date", "2031-01-02T00:00")
        await page.click('[name="_continue"]')
        await page.wait_for_selector(".messagelist .success")
        assert await page.input_value("#id_expiry_date") == "2031-01-02T00:00"
        sent = await page.input_value('[name="expiry_date"]')
        assert sent.startswith("2031-01-01T18:30")
        await page.goto(f"{seeded.url}/admin/settings_app/apikey/")
        assert await page.locator("td.field-expiry_date").inner_text() == "2031-01-02 00:00:00"


async def test_chosen_theme_applies_to_all_pages(browser: Browser, seeded: Server) -> None:
    async with open_page(browser, color_scheme="light") as (page, _):
        await page.goto(f"{seeded.url}/chats")
        await page.click(".theme-toggle")
        for path in ("/dashboard", DOCS, "/admin/login/"):
            await page.goto(seeded.url + path)
            colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert colour in ("rgb(18, 24, 29)", "rgb(22, 29, 35)"), (path, colour)


async def test_opened_operation_in_the_reference_is_readable(
    browser: Browser, seeded: Server
) -> None:
    async with open_page(browser, reduced_motion="reduce") as (page, complaints):
        await page.goto(seeded.url + DOCS)
        await page.locator(".opblock-summary-control").first.click()
        await page.locator(".examples-select-element").nth(3).wait_for()
        assert await find_faults(page) == []
        await page.emulate_media(color_scheme="dark")
        assert await find_faults(page, **CONTRAST_ONLY) == []
        assert complaints == []


async def test_help_of_a_lane_follows_the_typed_number(browser: Browser, seeded: Server) -> None:
    async with open_page(browser) as (page, complaints):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}{LANES}1/change/")
        words = page.locator('[data-field="window_s"]')
        await expect(words).to_contain_text("at most 1 s for others")
        await page.fill("#id_window_s", "2.5")
        await expect(words).to_contain_text("at most 2.5 s for others")
        assert complaints == []


async def test_keyboard_reaches_the_content_first(browser: Browser, seeded: Server) -> None:
    async with open_page(browser) as (page, _):
        await page.goto(f"{seeded.url}/chats")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        await page.keyboard.press("Enter")
        await page.wait_for_function("document.activeElement.id === 'main'")
