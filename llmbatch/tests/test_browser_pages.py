"""Every page in a real browser: quiet console, own files only, readable, fit for a phone."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser

from llmbatch.tests.browser import browser_marks, open_page
from llmbatch.tests.server import Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]

OWN_PAGES = [
    "/dashboard?days=30",
    "/chats",
    "/chats?status=lost",
    "/live",
    "/playground",
    "/v1/docs",
    "/nothing",
]
LANES = "/admin/settings_app/lane/"
ADMIN_PAGES = ["/admin/", LANES, f"{LANES}2/change/", "/admin/chats/chat/"]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
DJANGOS_OWN = ["#changelist-search", "#changelist .results", "#changelist-filter", ".paginator"]
"""what Django's admin brings along"""
SWAGGERS = "/v1/docs"
"""nearly all of it is Swagger UI's, whose colours are its own"""
DARK = ["/dashboard?days=30", "/chats", "/live", "/playground", LANES]
IN_THE_DARK = {"runOnly": ["color-contrast"]}
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"
PASSWORD = "a-password-for-tests-0123"


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pages")
    with Server(folder, GEMINI_API_KEY="", DJANGO_SUPERUSER_PASSWORD=PASSWORD) as server:
        server.manage("createsuperuser", "--noinput", "--username=ann", "--email=a@example.org")
        server.manage("seed_demo", "--chats", "300", "--weeks", "2")
        yield server


async def log_in(page, server) -> None:
    await page.goto(f"{server.url}/admin/login/")
    await page.fill("#id_username", "ann")
    await page.fill("#id_password", PASSWORD)
    await page.click("[type=submit]")
    await page.wait_for_selector(".front-page")


async def find_faults(page, path: str, **options) -> list[str]:
    """What axe-core calls serious or critical on the open page."""
    others = DJANGOS_OWN if path.startswith("/admin/") else []
    present = [selector for selector in others if await page.locator(selector).count()]
    found = await Axe().run(page, {"exclude": [[s] for s in present]} if present else None, options)
    return [
        f"{path}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found.response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


async def visit(
    browser: Browser, server: Server, paths: list[str], *, staff: bool, axe: bool = True
) -> list[str]:
    """Opens each page, in the light, in the dark and on a phone; gives what is wrong with any."""
    wrong: list[str] = []
    async with open_page(browser, reduced_motion="reduce", viewport=DESK) as (page, complaints):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        if staff:
            await log_in(page, server)
        for path in paths:
            complaints.clear()
            answer = await page.goto(server.url + path)
            # A browser complains of a page's own status; anything else is the page's fault.
            wrong += [f"{path}: {c}" for c in complaints if answer.ok or "status of 4" not in c]
            if answer.status >= 500:
                wrong.append(f"{path}: {answer.status}")
            if axe and path != SWAGGERS:
                wrong += await find_faults(page, path)
            await page.emulate_media(color_scheme="dark")
            if axe and path in DARK:
                wrong += await find_faults(page, f"{path} in the dark", **IN_THE_DARK)
            await page.set_viewport_size(PHONE)
            width, room = await page.evaluate(WIDTH)
            if width > room:
                wrong.append(f"{path}: {width} px in {room}")
            await page.emulate_media(color_scheme="light")
            await page.set_viewport_size(DESK)
        assert hosts == {urlsplit(server.url).netloc}
    return wrong


async def test_first_visit_with_nothing_stored(browser: Browser, tmp_path: Path) -> None:
    pages = ["/dashboard", "/chats", "/live", "/playground"]
    with Server(tmp_path, GEMINI_API_KEY="") as server:
        assert await visit(browser, server, pages, staff=False, axe=False) == []


async def test_every_page_is_readable_and_fits_a_phone(browser: Browser, seeded: Server) -> None:
    batch = await find_batch(browser, seeded)
    story = f"/admin/batching/batch/{batch.rpartition('/')[2]}/change/"
    pages = [*OWN_PAGES, batch, *ADMIN_PAGES, story]
    assert await visit(browser, seeded, pages, staff=True) == []


async def find_batch(browser: Browser, server: Server) -> str:
    """One in which something failed."""
    async with open_page(browser) as (page, _):
        await page.goto(f"{server.url}/chats?error_code=any")
        return await page.get_attribute('.facts a[href^="/batches/"]', "href")


async def test_times_are_the_viewers_and_the_title_keeps_utc(browser, seeded):
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await page.goto(f"{seeded.url}/chats")
        shown = page.locator(".chats time").first
        iso, title = await shown.get_attribute("datetime"), await shown.get_attribute("title")
        there = await page.evaluate("iso => Date.parse(iso) + 5.5 * 3600e3", iso)
        local = await page.evaluate("ms => new Date(ms).toISOString()", there)
        assert await shown.text_content() == local[:19].replace("T", " ")
        assert title == f"{iso[:19].replace('T', ' ')} UTC"


async def test_admin_lists_write_the_viewers_time_too(browser, seeded):
    async with open_page(browser, timezone_id="Asia/Kolkata") as (page, _):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}/admin/chats/chat/")
        cell = page.locator("td.field-received_at").first
        assert (await cell.get_attribute("title")).endswith(" UTC")
        assert await cell.text_content() != (await cell.get_attribute("title"))[:19]


async def test_words_of_a_lane_follow_what_is_typed(browser, seeded):
    async with open_page(browser) as (page, complaints):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}{LANES}1/change/")
        words = page.locator('[data-field="window_s"]')
        assert "at most 1 s for others" in await words.text_content()
        await page.fill("#id_window_s", "2.5")
        assert "at most 2.5 s for others" in await words.text_content()
        assert complaints == []


async def test_keyboard_reaches_the_content_first(browser, seeded):
    async with open_page(browser) as (page, _):
        await page.goto(f"{seeded.url}/chats")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
