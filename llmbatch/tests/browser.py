"""Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from llmbatch.tests.server import PATIENCE_S

CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=PATIENCE_S * 1000)


def browser_marks() -> list[pytest.MarkDecorator]:
    """Skips where no chromium is; CI demands it."""
    if not CHROMIUM and os.environ.get("CI"):
        raise RuntimeError("CI demands the tests of the pages: there is no chromium")
    return [
        pytest.mark.server,
        pytest.mark.skipif(not CHROMIUM, reason="no chromium to open pages with"),
    ]


@asynccontextmanager
async def launch() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=2 * PATIENCE_S * 1000
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(
    browser: Browser | None = None, **options: Any
) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page and what its console complains of; the options are a browser context's."""
    async with nullcontext(browser) if browser else launch() as opened:
        context = await opened.new_context(**options)
        context.set_default_timeout(PATIENCE_S * 1000)
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda line: _note(complaints, line))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page, complaints
        finally:
            await context.close()


async def follow(link: Locator) -> None:
    """Clicks, and returns when the next page is there."""
    async with link.page.expect_navigation():
        await link.click()


def _note(complaints: list[str], line: Any) -> None:
    if line.type in ("error", "warning"):
        complaints.append(line.text)
