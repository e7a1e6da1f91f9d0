"""The playground in a browser, against a real server and a model server."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from llmbatch.tests.fixtures.browser import browser_marks, find_faults, open_page
from llmbatch.tests.fixtures.page_actions import (
    PASSWORD,
    create_admin,
    fill_login,
    newest,
    send,
)
from llmbatch.tests.fixtures.server import LONG_WINDOWS, PATIENCE_S, Server

pytestmark = [*browser_marks(), pytest.mark.asyncio(loop_scope="session")]

QUICK_PAIRS = f"""{LONG_WINDOWS};
    UPDATE settings_app_lane SET window_s = 3, max_batch = 2 WHERE priority = 2"""
PHONE = {"width": 360, "height": 740}
HARD_PROMPT = 'It\'s "hard" \\ \\n $HOME `id` !! %s\n{n}: é 日本 🚀 </script> \'"$n"\''

# Records the states of the cards within the page, because they change quickly.
WATCH = """() => {
  window.seen = [];
  const note = ({ target, oldValue }) => {
    const where = target.closest(".batch") ? " in a batch" : "";
    // A busy browser reports several changes at once: the earlier states are the old values.
    if (oldValue) window.seen.push(oldValue + where);
    if (target.dataset.state) window.seen.push(target.dataset.state + where);
    if (target.matches(".note")) window.seen.push(target.textContent);
  };
  new MutationObserver((changes) => changes.forEach(note)).observe(
    document.getElementById("rounds"),
    {
      subtree: true,
      childList: true,
      attributeFilter: ["data-state"],
      attributeOldValue: true,
    },
  );
}"""


@pytest.fixture
def guarded(model_url: str, tmp_path: Path) -> Iterator[Server]:
    """A server that requires a key or an account; ann has an account."""
    access = {"API_ACCESS": "key", "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    with Server(tmp_path, prepare=QUICK_PAIRS, GEMINI_BASE_URL=model_url, **access) as server:
        create_admin(server)
        yield server


async def read_program(page: Page, kind: str) -> str:
    await page.click(f'[data-kind="{kind}"]')
    return await page.locator("#code").text_content()


async def run_program(text: str, **variables: str) -> tuple[int | None, str]:
    """The exit code and the output."""
    command = ["bash", "-c"] if text.startswith(("curl", "for")) else [sys.executable, "-c"]
    run = await asyncio.create_subprocess_exec(
        *command,
        text,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()
    return run.returncode, output.decode()


async def list_prompts(model_url: str) -> list[str]:
    """The prompts of the model's calls since the last deletion; deletes the calls."""
    async with httpx2.AsyncClient(timeout=60) as client:
        calls = (await client.get(f"{model_url}/calls")).json()["calls"]
        await client.delete(f"{model_url}/calls")
    return [prompt for call in calls for prompt in call["prompts"].values()]


async def test_twenty_share_batches_and_each_gets_its_own_answer(browser: Browser, gateway: Server):
    async with open_page(browser) as (page, complaints):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await page.goto(f"{gateway.url}/playground")
        await expect(page.locator("#empty")).to_be_visible()
        await page.evaluate(WATCH)
        await page.fill("#prompt", "Number {n}, please")
        await page.select_option("#priority", "MEDIUM")
        await page.click("text=Send 20")
        await expect(page.locator("#empty")).to_be_hidden()
        summary = page.locator(".summary")
        saved = "20 requests, 5 batches, 5 model calls; 15 calls saved."
        await expect(summary).to_have_text(saved)
        await expect(page.locator("#announcement")).to_have_text(saved)
        seen = await page.evaluate("seen")
        assert {"queued", "batched", "writing in a batch", "done in a batch"} <= set(seen)
        titles = await page.locator(".batch h4").all_text_contents()
        first = int(titles[0].removeprefix("batch ").partition(":")[0])
        assert titles == [
            f"batch {pk}: 4 requests, one model call" for pk in range(first, first + 5)
        ]
        link = page.locator(".batch h4 a").first
        await expect(link).to_have_attribute("href", f"/batches/{first}")
        answers = await page.locator(".answer").all_text_contents()
        for number, answer in enumerate(answers, 1):
            assert answer.startswith(f'[simulated] On "Number {number}, please": ')
        tones = await page.locator(".batch").evaluate_all("all => all.map(b => b.dataset.tone)")
        assert len(set(tones)) == 5
        await expect(page.locator(".note").first).to_contain_text(" tokens.")
        assert hosts == {urlsplit(gateway.url).netloc}
    assert complaints == []


async def test_broken_and_blocked_requests_say_so(browser: Browser, gateway: Server):
    async with open_page(browser) as (page, complaints):
        await page.goto(f"{gateway.url}/playground")
        await page.evaluate(WATCH)
        await send(page, "A story [[fault:reset:1]] [[words:40]]")
        restarted = newest(page, ".card[data-restarted]")
        note = restarted.locator(".note")
        await expect(note).to_contain_text("It broke off once and was requested again.")
        restarted_note = "The answer broke off and is requested again. Ignore the text so far."
        assert restarted_note in await page.evaluate("seen")
        await expect(newest(page, "h4")).to_contain_text(["1 request, 2 model calls"])
        text = await restarted.locator(".answer").text_content()
        assert text.count("[simulated]") == 1

        await send(page, "Forbidden [[fault:blocked]]")
        failed = newest(page, ".card[data-state=failed]")
        await expect(failed.locator(".badge")).to_have_text("failed, blocked")
        await expect(failed.locator(".note")).to_contain_text("refused this prompt")
        await expect(newest(page, ".summary")).to_contain_text("1 failed")
    assert complaints == []


async def test_cancelled_and_refused_requests_say_so(browser: Browser, gateway: Server):
    async with open_page(browser) as (page, complaints):
        await page.goto(f"{gateway.url}/playground")
        await send(page, "Never mind", priority="LOW")
        await expect(newest(page, ".badge")).to_have_text("waiting, position 1")
        await newest(page, ".cancel").click()
        await expect(newest(page, ".card[data-state=cancelled]")).to_be_visible()
        assert await page.evaluate("document.activeElement.className") == "card"
        await expect(newest(page, ".cancel")).to_be_hidden()
        await expect(newest(page, ".summary")).to_contain_text("1 cancelled")

        async with httpx2.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            for most in (1, 10_000):
                document = {"low_priority": {"max_queue": most}}
                assert (await client.patch("/v1/settings", json=document)).is_success
                if most == 1:
                    await send(page, "Too many", priority="LOW", count=3)
                    full = newest(page, ".card[data-state=failed]")
                    await expect(full).to_have_count(2)
                    await expect(full.first.locator(".badge")).to_have_text("failed, queue_full")
                    await expect(full.first.locator(".note")).to_contain_text("Try again in ")
        await newest(page, ".card[data-state=queued] .cancel").click()
        await expect(newest(page, ".summary")).to_contain_text("2 failed, 1 cancelled")
    assert complaints == []


async def test_prompts_are_shown_as_text_and_too_long_ones_are_not_sent(
    browser: Browser, gateway: Server
):
    async with open_page(browser) as (page, complaints):
        await page.goto(f"{gateway.url}/playground")
        await send(page, "a <b>bold</b> word <img src=x>")
        await expect(newest(page, ".card[data-state=done]")).to_be_visible()
        assert await page.locator(".card b, .card img").count() == 0
        await page.fill("#prompt", "x" * 1_000_000)
        await page.click("text=/^Send$/")
        assert await page.locator(".round").count() == 1
    assert complaints == []


async def test_waiting_request_is_dropped_when_the_page_is_left(browser: Browser, gateway: Server):
    async with open_page(browser) as (page, _):
        await page.goto(f"{gateway.url}/playground")
        await page.fill("#username", "leaver")
        await send(page, "Not for long", priority="LOW")
        await expect(newest(page, ".badge")).to_have_text("waiting, position 1")
        await page.goto(f"{gateway.url}/nothing")
        async with (
            httpx2.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
            asyncio.timeout(PATIENCE_S),
        ):
            chat = {"error": None}
            while chat["error"] is None:
                await asyncio.sleep(0.02)
                chat = (await client.get("/v1/chat?username=leaver")).json()["chats"][0]
        assert chat["error"]["code"] == "cancelled"


async def test_keyboard_alone_suffices_on_a_phone_in_both_themes(browser: Browser, gateway: Server):
    async with open_page(browser, viewport=PHONE, reduced_motion="reduce") as (page, complaints):
        await page.goto(f"{gateway.url}/playground")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            await page.fill("#prompt", f"Much of {{n}} {'very' * 40} [[words:90]]")
            await page.fill("#count", "7")
            await page.focus("#prompt")
            await page.keyboard.press("Control+Enter")
            await expect(newest(page, ".card[data-state=done]")).to_have_count(7)
            assert await page.evaluate("document.activeElement.id") == "prompt"
            assert await newest(page, ".card").first.evaluate("c => c.getAnimations().length") == 0
            assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
            assert await find_faults(page) == []
        await page.focus("#tab-curl")
        await page.keyboard.press("ArrowRight")
        assert await page.evaluate("document.activeElement.id") == "tab-python"
        await expect(page.locator("#code")).to_contain_text("asyncio.gather")
        await page.evaluate("delete Navigator.prototype.clipboard")  # as on a page over http
        await page.click("#copy")
        await expect(page.locator("#copy")).to_have_text("Copied")
        await page.fill("#prompt", "")
        await page.focus("#prompt")
        await page.keyboard.press("Control+V")
        assert "asyncio.gather" in await page.input_value("#prompt")
    assert complaints == []


async def test_programs_send_the_same_requests(browser: Browser, gateway: Server, model_url: str):
    if not shutil.which("curl"):
        assert not os.environ.get("CI"), "CI requires curl"
        pytest.skip("no curl")
    async with open_page(browser, permissions=["clipboard-read", "clipboard-write"]) as (page, _):
        await page.goto(f"{gateway.url}/playground")
        programs = []
        for count in (1, 3):
            await send(page, HARD_PROMPT, count=count)
            await expect(newest(page, ".card[data-state=done]")).to_have_count(count)
            programs += [await read_program(page, kind) for kind in ("curl", "python", "stream")]
        await page.click("#copy")
        await expect(page.locator("#copy")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == programs[-1]
    await list_prompts(model_url)
    runs = await asyncio.gather(*(run_program(program) for program in programs))
    assert [code for code, _ in runs] == [0] * 6, runs
    outputs = [output for _, output in runs]
    first, second, third = (HARD_PROMPT.replace("{n}", str(n)) for n in (1, 2, 3))
    asked = sorted(await list_prompts(model_url))
    assert asked == sorted([first] * 6 + [second] * 3 + [third] * 3)
    assert json.loads(outputs[0])["text"].startswith("[simulated] On \"It's")
    assert len([json.loads(line) for line in outputs[3].splitlines()]) == 3
    assert outputs[1].startswith("200 ")
    assert "'type': 'done'" in outputs[2]
    assert outputs[4].count(" 200 {") == 3
    assert outputs[5].count("'type': 'done'") == 3


async def test_staff_may_send_while_the_gateway_runs_and_the_session_is_valid(
    browser: Browser, guarded: Server
):
    key = (await asyncio.to_thread(guarded.manage, "create_api_key", "play")).split()[-1]
    async with open_page(browser) as (page, complaints):
        await page.goto(f"{guarded.url}/playground")
        await fill_login(page)
        assert await page.input_value("#username") == "ann"
        await send(page, "Hello", count=2)
        await expect(page.locator(".summary")).to_contain_text("2 requests, 1 batch, 1 model call")
        program = await read_program(page, "curl")
        assert '-H "Authorization: Bearer $LLMBATCH_API_KEY"' in program
        code, output = await run_program(program, LLMBATCH_API_KEY=key)
        assert code == 0
        assert {json.loads(line)["username"] for line in output.splitlines()} == {"ann"}
        assert complaints == []

        await send(page, "A question that waits", priority="LOW")
        await expect(newest(page, ".badge")).to_have_text("waiting, position 1")
        guarded.process.kill()
        guarded.process.wait()
        await expect(page.locator("#problem")).to_contain_text("The connection broke.")
        await expect(newest(page, ".badge")).to_have_text("no answer")
        await send(page, "Is anybody there?")
        await expect(page.locator("#problem")).to_contain_text("cannot be reached")
        await asyncio.to_thread(guarded.start)
        await page.click("#problem button")
        await expect(newest(page, ".card[data-state=done]")).to_be_visible()
        await expect(page.locator("#problem")).to_be_empty()

        await page.context.clear_cookies()
        await send(page, "Hello again")
        login = page.locator("#problem a")
        await expect(login).to_have_attribute("href", "/admin/login/?next=/playground")
        await expect(newest(page, ".card")).to_have_attribute("data-state", "lost")
    assert [text for text in complaints if "WebSocket connection to" not in text] == []
