"""Takes screenshots/*.png of a running gateway: `python docs/screenshots.py URL USER PASSWORD`.

It needs Debian's packages chromium and fonts-noto-cjk, a gateway with a history (`./gateway
seed_demo`) and the simulated model, and the account of an admin.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
LANES = "/admin/settings_app/lane/"
VARIANTS = {
    "light": (1200, 760, "light"),
    "dark": (1200, 760, "dark"),
    "phone": (360, 740, "light"),
}
PAGES = {
    "dashboard": "/dashboard",
    "batches": "/batches",
    "chats": "/chats",
    "api": "/v1/docs",
    "admin": "/admin/",
    "admin-chats": "/admin/chats/chat/",
    "admin-call": "/admin/batching/modelcall/100/change/",
    "lanes": LANES,
    "lane": f"{LANES}2/change/",
    "settings": "/admin/settings_app/gatewaysettings/1/change/",
    "history": "/admin/settings_app/settingschange/",
    "api-keys": "/admin/settings_app/apikey/add/",
}
SEND_WAVES = """() => {
  const names = ["anna", "ben", "newsletter", "support-desk", "nightly-report", "translations"];
  let wave = 0;
  const token = /csrftoken=([^;]+)/.exec(document.cookie)[1];
  const headers = { "Content-Type": "application/json", Prefer: "respond-async" };
  headers["X-CSRFToken"] = token;
  setInterval(() => {
    const counts = { HIGH: 8, MEDIUM: 6, LOW: wave % 8 ? 0 : 3 };
    for (const [priority, count] of Object.entries(counts)) {
      for (let index = 0; index < count; index += 1) {
        const body = { username: names[(wave + index) % 6], prompt: "Why?", priority };
        fetch("/v1/query", { method: "POST", headers, body: JSON.stringify(body) });
      }
    }
    wave += 1;
  }, 300);
}"""


def main(url: str, username: str, password: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        change_lane(browser, url, username, password)
        for variant in VARIANTS:
            take_screenshots(browser, variant, url, username, password)
        browser.close()


def log_in(page: Page, username: str, password: str) -> None:
    page.fill("#id_username", username)
    page.fill("#id_password", password)
    page.click("[type=submit]")


def change_lane(browser: Browser, url: str, username: str, password: str) -> None:
    """Changes a lane and changes it back, so that the history of changes has entries."""
    page = browser.new_page()
    page.goto(f"{url}/admin/login/?next={LANES}1/change/")
    log_in(page, username, password)
    for window in ("1.5", "1"):
        page.goto(f"{url}{LANES}1/change/")
        page.fill("#id_window_s", window)
        page.click('[name="_save"]')
    page.close()


def take_screenshots(
    browser: Browser, variant: str, url: str, username: str, password: str
) -> None:
    width, height, scheme = VARIANTS[variant]
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.goto(f"{url}/admin/login/")
    page.screenshot(path=FOLDER / f"login-{variant}.png")
    log_in(page, username, password)
    page.goto(f"{url}/chats?error_code=any&priority=HIGH")
    batch = page.get_attribute('.facts a[href^="/batches/"]', "href")
    for name, path in {"batch": batch, **PAGES}.items():
        page.goto(url + path)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FOLDER / f"{name}-{variant}.png")
    take_live(page, variant, url)
    take_playground(page, variant, url)
    page.close()


def take_live(page: Page, variant: str, url: str) -> None:
    """The live page while requests wait in every lane and batches run."""
    page.goto(f"{url}/live")
    page.locator("#link[data-state=on]").wait_for()
    page.evaluate(SEND_WAVES)
    page.locator("#running .batch").nth(3).wait_for()
    page.locator('[data-lane="LOW"] .chip').nth(2).wait_for()
    page.screenshot(path=FOLDER / f"live-{variant}.png")


def take_playground(page: Page, variant: str, url: str) -> None:
    """The playground with twenty requests in their batches, after the first answers."""
    page.goto(f"{url}/playground")
    page.click("text=Send 20")
    page.locator(".card[data-state=done]").nth(5).wait_for()
    page.screenshot(path=FOLDER / f"playground-{variant}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
