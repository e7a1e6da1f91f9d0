"""The live page in a browser, against a real server with the simulated model."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from llmbatch.tests.fixtures.browser import browser_marks, find_faults, open_page
from llmbatch.tests.fixtures.server import PATIENT, Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]

# The window of LOW is long enough to inspect the waiting requests.
WINDOW = f"{PATIENT}; UPDATE settings_app_lane SET window_s = 12 WHERE priority = 0"
# A page that lost its server tries again after pauses.
LIVE_WITHIN_MS = 240_000
# A script in the page, because a batch of the simulated model ends soon.
FIRST_BATCH = """() => new Promise((found) => {
  const look = () => {
    const batch = document.querySelector("#running .batch");
    if (batch) found(batch.textContent); else setTimeout(look, 20);
  };
  look();
})"""


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Server]:
    variables = {"DJANGO_DEBUG": "true", "GEMINI_API_KEY": "", "GEMINI_BASE_URL": ""}
    with Server(tmp_path, prepare=WINDOW, **variables) as server:
        yield server


async def ask(server: Server, names: list[str], priority: str) -> None:
    async with httpx2.AsyncClient(timeout=300) as client:
        bodies = [{"username": n, "prompt": "Why?", "priority": priority} for n in names]
        url = f"{server.url}/v1/query"
        replies = await asyncio.gather(*(client.post(url, json=body) for body in bodies))
    assert [reply.status_code for reply in replies] == [200] * len(names)


async def open_live(server: Server, page: Page) -> None:
    await page.goto(f"{server.url}/live")
    await expect(page.locator("#link")).to_have_text("Live", timeout=LIVE_WITHIN_MS)


async def test_page_shows_requests_wait_leave_and_end_and_survives_a_restart(
    browser: Browser, simulated: Server
):
    async with open_page(browser) as (page, complaints):
        await open_live(simulated, page)
        await expect(page.locator("#empty")).to_be_visible()
        await expect(page.locator("#model")).to_contain_text("every answer is simulated")
        low = page.locator('[data-lane="LOW"]')
        asking = asyncio.create_task(ask(simulated, ["ann", "bob", "cid"], "LOW"))
        await expect(low.locator(".chip")).to_have_count(3)
        assert sorted(await low.locator(".chip").all_inner_texts()) == ["ann", "bob", "cid"]
        await expect(low.locator(".depth")).to_have_text("3 waiting")
        await expect(low.locator(".due")).to_contain_text("due in")
        await expect(page.locator("#empty")).to_be_hidden()
        assert "batch 1 LOW, sent after its window" in await page.evaluate(FIRST_BATCH)
        await expect(low.locator(".chip")).to_have_count(0)
        await asking
        await expect(page.locator("#outcomes a").first).to_have_attribute("href", "/batches/1")
        cells = page.locator("#outcomes tr").first.locator("td")
        await expect(cells).to_contain_text(["LOW", "3", "3", "0", "1", " s"])
        await expect(page.locator("#summary")).to_contain_text("3 answered")
        assert complaints == []

        simulated.process.kill()
        simulated.process.wait()
        await expect(page.locator("#link")).to_contain_text("Not live.")
        await expect(page.locator("#link")).to_contain_text("The page shows the state of")
        await expect(page.locator("#link-next")).to_contain_text("Reconnecting in")
        await asyncio.to_thread(simulated.start)
        await expect(page.locator("#link")).to_have_text("Live", timeout=LIVE_WITHIN_MS)
        asking = asyncio.create_task(ask(simulated, ["dora"] * 6, "HIGH"))
        await expect(page.locator("#outcomes")).to_contain_text("HIGH")
        await asking
    assert {text for text in complaints if "WebSocket connection to" not in text} == set()


async def test_page_on_a_phone_has_no_serious_fault(browser: Browser, gateway: Server):
    phone = {"width": 360, "height": 740}
    async with open_page(browser, viewport=phone, reduced_motion="reduce") as (page, complaints):
        await open_live(gateway, page)
        await ask(gateway, ["a-user-with-a-very-long-name-that-never-ends"] * 7, "HIGH")
        asking = asyncio.create_task(ask(gateway, ["ann", "bob"], "LOW"))
        await expect(page.locator('[data-lane="LOW"] .chip')).to_have_count(2)
        motion = "getComputedStyle(document.querySelector('.chip')).animationName"
        assert await page.evaluate(motion) == "none"
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            assert await page.evaluate("document.documentElement.scrollWidth") == 360
            assert await find_faults(page) == []
        asking.cancel()
        await asyncio.wait([asking])
        await expect(page.locator('[data-lane="LOW"] .chip')).to_have_count(0)
    assert complaints == []
