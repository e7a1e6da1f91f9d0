"""A visit to several pages: sends prompts, watches them, edits a lane, and has a key refused."""

from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from llmbatch.tests.fixtures.browser import browser_marks, open_page
from llmbatch.tests.fixtures.page_actions import (
    LANES,
    PASSWORD,
    create_admin,
    log_in,
    newest,
    send,
)
from llmbatch.tests.fixtures.server import LONG_WINDOWS, PATIENCE_S, Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]


async def test_edited_lane_takes_effect_and_a_refused_key_is_reported(
    browser: Browser, model_url: str, tmp_path: Path
) -> None:
    variables = {"GEMINI_BASE_URL": model_url, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    with Server(tmp_path, prepare=LONG_WINDOWS, **variables) as server:
        create_admin(server)
        async with (
            open_page(browser) as (play, complaints),
            open_page(browser) as (live, live_complaints),
        ):
            await live.goto(f"{server.url}/live")
            await expect(live.locator("#link")).to_have_text("Live")
            await log_in(play, server)
            await send_while_watching(play, live, server)
            await edit_lane(play, server)
            await play.goto(f"{server.url}/playground")
            await send(play, "Number {n}", priority="LOW", count=4)
            await expect(play.locator(".batch h4")).to_have_text(
                ["batch 2: 2 requests, one model call", "batch 3: 2 requests, one model call"]
            )
            await check_refused_key(play, server)
        assert complaints + live_complaints == []


async def send_while_watching(play: Page, live: Page, server: Server) -> None:
    await play.goto(f"{server.url}/playground")
    await send(play, "Number {n}", priority="LOW", count=3)
    low = live.locator('[data-lane="LOW"]')
    await expect(low.locator(".chip")).to_have_count(3)
    body = {"username": "bob", "prompt": "The fourth fills the batch.", "priority": "LOW"}
    async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        assert (await client.post("/v1/query", json=body)).is_success
    await expect(play.locator(".summary")).to_contain_text("2 calls saved")
    await expect(low.locator(".chip")).to_have_count(0)
    cells = live.locator("#outcomes tr").first.locator("td")
    await expect(cells).to_contain_text(["LOW", "4", "4", "0", "1", " s"])


async def edit_lane(page: Page, server: Server) -> None:
    await page.goto(f"{server.url}{LANES}0/change/")
    await page.fill("#id_max_batch", "2")
    await page.click('[name="_save"]')
    await expect(page.locator(".messagelist .success")).to_be_visible()


async def check_refused_key(page: Page, server: Server) -> None:
    await send(page, "[[fault:status-400-key]]")
    failed = newest(page, '.card[data-state="failed"]')
    await expect(failed).to_contain_text("upstream_rejected_key")
    await page.goto(f"{server.url}/dashboard")
    await expect(page.locator(".notice.bad")).to_contain_text("upstream_rejected_key")
