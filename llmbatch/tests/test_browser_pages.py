"""Every page in a real browser: quiet console, own files only, readable, fit for a phone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe

from llmbatch.tests.browser import browser_marks, open_page
from llmbatch.tests.server import Server

pytestmark = browser_marks()

OWN_PAGES = [
    "/dashboard?days=30",
    "/chats",
    "/chats?status=lost",
    "/live",
    "/playground",
    "/nothing",
]
LANES = "/admin/settings_app/lane/"
ADMIN_PAGES = ["/admin/", LANES, f"{LANES}2/change/", "/admin/chats/chat/"]
PHONE = {"viewport": {"width": 360, "height": 740}}
DESK = {"viewport": {"width": 1280, "height": 900}}
DJANGOS_OWN = {"label-title-only", "link-in-text-block"}
"""what axe holds against the lists of Django's admin itself"""
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"
PASSWORD = "a-password-for-tests-0123"


@contextmanager
def start_server(folder: Path) -> Iterator[Server]:
    with Server(folder, GEMINI_API_KEY="", DJANGO_SUPERUSER_PASSWORD=PASSWORD) as server:
        server.manage("createsuperuser", "--noinput", "--username=ann", "--email=a@example.org")
        yield server


@pytest.fixture
def empty(tmp_path):
    with start_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("pages")) as server:
        server.manage("seed_demo", "--chats", "300", "--weeks", "2")
        yield server


async def log_in(page, server) -> None:
    await page.goto(f"{server.url}/admin/login/")
    await page.fill("#id_username", "ann")
    await page.fill("#id_password", PASSWORD)
    await page.click("[type=submit]")
    await page.wait_for_selector(".front-page")


async def find_faults(page, path: str) -> list[str]:
    """What axe-core calls serious or critical on the open page."""
    found = await Axe().run(page)
    known = DJANGOS_OWN if path.startswith("/admin/") else set()
    return [
        f"{path}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found.response["violations"]
        if fault["impact"] in ("serious", "critical") and fault["id"] not in known
    ]


async def visit(server, paths: list[str], *, axe: bool, **options) -> list[str]:
    """Opens each page as staff; gives what is wrong with any."""
    wrong: list[str] = []
    async with open_page(reduced_motion="reduce", **options) as (page, complaints):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await log_in(page, server)
        for path in paths:
            complaints.clear()
            answer = await page.goto(server.url + path)
            # A browser complains of a page's own status; anything else is the page's fault.
            wrong += [f"{path}: {c}" for c in complaints if answer.ok or "status of 4" not in c]
            if answer.status >= 500:
                wrong.append(f"{path}: {answer.status}")
            width, room = await page.evaluate(WIDTH)
            if width > room:
                wrong.append(f"{path}: {width} px in {room}")
            wrong += await find_faults(page, path) if axe else []
        assert hosts == {urlsplit(server.url).netloc}
    return wrong


async def test_first_visit_with_nothing_stored(empty):
    pages = ["/dashboard", "/chats", "/live", "/admin/", "/admin/chats/chat/"]
    assert await visit(empty, pages, axe=False, **PHONE) == []


async def find_batch(server) -> str:
    """One in which something failed."""
    async with open_page() as (page, _):
        await page.goto(f"{server.url}/chats?error_code=any")
        return await page.get_attribute('.facts a[href^="/batches/"]', "href")


async def test_every_page_is_readable(seeded):
    batch = await find_batch(seeded)
    story = f"/admin/batching/batch/{batch.rpartition('/')[2]}/change/"
    assert await visit(seeded, [*OWN_PAGES, batch, *ADMIN_PAGES, story], axe=True, **DESK) == []


async def test_main_pages_are_readable_in_the_dark(seeded):
    pages = ["/dashboard?days=30", "/chats", await find_batch(seeded), LANES]
    assert await visit(seeded, pages, axe=True, color_scheme="dark", **DESK) == []


async def test_every_page_fits_a_phone(seeded):
    pages = [*OWN_PAGES, await find_batch(seeded), *ADMIN_PAGES]
    assert await visit(seeded, pages, axe=False, **PHONE) == []


async def test_times_are_the_viewers_and_the_title_keeps_utc(seeded):
    async with open_page(timezone_id="Asia/Kolkata") as (page, _):
        await page.goto(f"{seeded.url}/chats")
        shown = page.locator(".chats time").first
        iso, title = await shown.get_attribute("datetime"), await shown.get_attribute("title")
        there = await page.evaluate("iso => Date.parse(iso) + 5.5 * 3600e3", iso)
        local = await page.evaluate("ms => new Date(ms).toISOString()", there)
        assert await shown.text_content() == local[:19].replace("T", " ")
        assert title == f"{iso[:19].replace('T', ' ')} UTC"


async def test_admin_lists_write_the_viewers_time_too(seeded):
    async with open_page(timezone_id="Asia/Kolkata") as (page, _):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}/admin/chats/chat/")
        cell = page.locator("td.field-received_at").first
        assert (await cell.get_attribute("title")).endswith(" UTC")
        assert await cell.text_content() != (await cell.get_attribute("title"))[:19]


async def test_words_of_a_lane_follow_what_is_typed(seeded):
    async with open_page() as (page, complaints):
        await log_in(page, seeded)
        await page.goto(f"{seeded.url}{LANES}1/change/")
        words = page.locator('[data-field="window_s"]')
        assert "at most 1 s for others" in await words.text_content()
        await page.fill("#id_window_s", "2.5")
        assert "at most 2.5 s for others" in await words.text_content()
        assert complaints == []


async def test_keyboard_reaches_the_content_first(seeded):
    async with open_page() as (page, _):
        await page.goto(f"{seeded.url}/chats")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
