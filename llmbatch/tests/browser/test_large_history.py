"""Every page that lists, counts or exports a large history, in a real browser.

The history has more rows than any page counts or shows. The bench measures a million rows.
"""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from chats.search import FIRST_RANGE
from llmbatch.tests.fixtures.browser import browser_marks, follow, open_page
from llmbatch.tests.fixtures.databases import copy_sqlite
from llmbatch.tests.fixtures.page_actions import PASSWORD, create_admin, log_in
from llmbatch.tests.fixtures.server import ROOT, Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]

# A twelfth of these are the model calls of a lane, more than the 10,000 that the admin counts.
ROWS = 150_000
FILL = f"""import django
django.setup()
from bench.history import fill_history
fill_history({ROWS}, wordy=False)"""
# A fast machine searches all of them at once.
SEARCHED = re.compile("found among the chats since|0 chats match")
SEARCHED_TO_THE_END = re.compile("No more chats match|0 chats match")
READ_START = """async (address) => {
  const reader = (await fetch(address)).body.getReader();
  let text = "";
  while (text.length < 20000) text += new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
  return text;
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("million")
    server = Server(folder, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    copy_sqlite(folder / "gateway.sqlite3")
    variables = server.environment | {"DJANGO_SETTINGS_MODULE": "llmbatch.settings"}
    subprocess.run([sys.executable, "-c", FILL], cwd=ROOT, env=variables, check=True)
    create_admin(server)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)  # pytest would keep its 100 MB for three more runs


async def test_all_lists_of_a_large_history_work(browser: Browser, server: Server) -> None:
    async with open_page(browser) as (page, complaints):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await log_in(page, server)
        await follow_figures(page, server)
        await check_chats(page, server)
        await open_batch(page, server)
        await check_admin(page, server)
        await start_exports(page, server)
        assert complaints == []
        assert hosts == {urlsplit(server.url).netloc}
    assert "Traceback" not in server.log


async def follow_figures(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/dashboard?days=30")
    figure = page.locator('.figures [data-figure="requests"]')
    assert int(await figure.get_attribute("data-value")) > 0.99 * ROWS
    await follow(figure.locator("a"))
    await expect(page.locator(".results strong")).to_have_text(f"{ROWS:,}")
    await page.goto(f"{server.url}/dashboard?days=30")
    await follow(page.locator('td [data-figure="by_priority.HIGH.model_calls"] a'))
    await expect(page.locator("#result_list tbody tr")).to_have_count(50)
    await expect(page.locator(".onward")).to_contain_text("stop at 10000 rows")


async def check_chats(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/chats")
    newest = await page.locator(".chats h2").first.get_attribute("id")
    await follow(page.locator("text=Older").first)
    assert await page.locator(".chats h2").first.get_attribute("id") != newest
    await page.goto(f"{server.url}/chats?before={ROWS // 2}")
    await expect(page.locator(".chats > li")).to_have_count(50)
    await page.fill('[name="search"]', "no chat holds this")
    await follow(page.locator("text=Show").first)
    await expect(page.locator(".results")).to_contain_text(SEARCHED)
    for _ in range(ROWS // FIRST_RANGE):
        further = page.locator("text=Search further back")
        if not await further.count():
            break
        await follow(further)
    await expect(page.locator(".results")).to_contain_text(SEARCHED_TO_THE_END)
    await page.goto(f"{server.url}/chats?status=done&from=2000-01-01")
    await expect(page.locator(".results")).to_contain_text("More than 50,000 chats")


async def open_batch(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/batches?priority=HIGH&from=2000-01-01")
    await follow(page.locator("table.batches a").first)
    await expect(page.locator("h1")).to_contain_text("Batch ")
    await expect(page.locator(".tracks tr")).to_have_count(5)


async def check_admin(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}/admin/chats/chat/?p=200")
    last = int(await page.locator("th.field-id").last.text_content())
    assert last == ROWS - 9999
    await follow(page.locator(".onward a").first)
    assert int(await page.locator("th.field-id").first.text_content()) == last - 1
    await page.goto(f"{server.url}/admin/chats/chat/")
    await follow(page.locator(".toplinks a").first)
    await expect(page.locator("#result_list tbody tr")).to_have_count(50)
    await page.fill("#searchbar", "r777")
    async with page.expect_navigation():
        await page.press("#searchbar", "Enter")
    await expect(page.locator("#result_list tbody tr")).to_have_count(1)


async def start_exports(page: Page, server: Server) -> None:
    """Both exports are streamed: the server never holds all rows."""
    before = server.memory_mb
    for form in ("csv", "json"):
        address = f"{server.url}/chats/export.{form}"
        start = await page.evaluate(READ_START, address)
        assert f"r{ROWS}" in start
    await asyncio.sleep(0.5)
    assert server.memory_mb < before + 60
