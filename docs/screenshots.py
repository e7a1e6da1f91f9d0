"""Takes screenshots/*.png of a running gateway: `python docs/screenshots.py URL USER PASSWORD`.

Wants Debian's chromium, a seeded database (`manage.py seed_demo`) and an admin's account.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
LANES = "/admin/settings_app/lane/"
LOOKS = {"light": (1200, 760, "light"), "dark": (1200, 760, "dark"), "phone": (360, 740, "light")}


def main(url: str, username: str, password: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for look in LOOKS:
            take_pictures(browser, look, url, username, password)
        browser.close()


def take_pictures(browser: Browser, look: str, url: str, username: str, password: str) -> None:
    width, height, scheme = LOOKS[look]
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.goto(f"{url}/admin/login/")
    page.fill("#id_username", username)
    page.fill("#id_password", password)
    page.click("[type=submit]")
    page.goto(f"{url}/chats?error_code=any&priority=HIGH")
    batch = page.get_attribute('.facts a[href^="/batches/"]', "href")
    paths = {"dashboard": "/dashboard", "chats": "/chats", "batch": batch, "lanes": LANES}
    for name, path in paths.items():
        page.goto(url + path)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FOLDER / f"{name}-{look}.png")
    take_playground(page, look, url)
    page.close()


def take_playground(page: Page, look: str, url: str) -> None:
    """Twenty requests in their batches, when the first answers are there."""
    page.goto(f"{url}/playground")
    page.click("text=Send 20")
    page.locator(".card[data-state=done]").nth(5).wait_for()
    page.screenshot(path=FOLDER / f"playground-{look}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
