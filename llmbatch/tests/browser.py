"""Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium")


def browser_marks() -> list[pytest.MarkDecorator]:
    """Skips where no chromium is; CI demands it."""
    if not CHROMIUM and os.environ.get("CI"):
        raise RuntimeError("CI demands the tests of the pages: there is no chromium")
    return [
        pytest.mark.server,
        pytest.mark.timeout(120),
        pytest.mark.skipif(not CHROMIUM, reason="no chromium to open pages with"),
    ]


@asynccontextmanager
async def launch() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda line: _note(complaints, line))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page, complaints
        finally:
            await context.close()


def _note(complaints: list[str], line: Any) -> None:
    if line.type in ("error", "warning"):
        complaints.append(line.text)
