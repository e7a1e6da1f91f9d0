// The playground: its form, the sent requests, and the programs that send the same requests.
"use strict";

(() => {
  const MAX_ROUNDS = 6;
  const ANNOUNCE_MS = 2500; // the least time between two announcements to a screen reader
  const MAX_BYTES = 1000 * 1000 - 2000; // the gateway's limit of 1 MB, less the rest of the frame
  const SHOWN_MS = 2000;

  const byId = (id) => document.getElementById(id);
  const make = window.makeElement;
  const page = byId("playground");
  const form = byId("ask");
  const { prompt, priority, username, count } = form.elements;
  const urls = { batches: page.dataset.batchesUrl, batch: page.dataset.batchUrl };
  const rounds = [];
  let sentLast = null;
  let kind = "curl";
  let announcedAt = 0;
  let announcing = 0;

  function readForm(many = count.value) {
    return {
      url: new URL("/v1/query", location.href).href,
      prompt: prompt.value,
      priority: priority.value,
      username: username.value.trim(),
      count: Math.max(1, Math.min(Number(count.max), Number(many) || 1)),
      patienceS: Number(priority.selectedOptions[0].dataset.patience),
      needsKey: "needsKey" in page.dataset,
    };
  }

  function checkForm() {
    const tooLarge = new Blob([JSON.stringify(prompt.value)]).size > MAX_BYTES;
    prompt.setCustomValidity(tooLarge ? "A prompt may have at most 1 MB." : "");
    username.setCustomValidity(username.value.trim() ? "" : "Enter a name.");
  }

  function send(many) {
    sentLast = readForm(many);
    const round = new window.PlaygroundRound(sentLast, urls, { changed, stopped });
    rounds.unshift(round);
    byId("rounds").prepend(round.element);
    byId("empty").hidden = true;
    byId("problem").replaceChildren();
    const old = rounds.slice(MAX_ROUNDS).filter((one) => one.ended);
    for (const one of old) {
      rounds.splice(rounds.indexOf(one), 1);
      one.element.remove();
    }
    round.send();
    showProgram();
    if (round.element.getBoundingClientRect().top > innerHeight / 2) round.element.scrollIntoView();
  }

  /** Announces the summary of the newest round, but not after every character or card. */
  function changed(round) {
    if (round !== rounds[0]) return;
    const waitMs = round.ended ? 0 : Math.max(0, announcedAt + ANNOUNCE_MS - performance.now());
    clearTimeout(announcing);
    announcing = setTimeout(() => {
      announcedAt = performance.now();
      byId("announcement").textContent = round.summary.textContent;
    }, waitMs);
  }

  function stopped(round, text, mustLogIn) {
    const notice = make("p", "notice bad", `${text} `);
    notice.setAttribute("role", "alert");
    if (mustLogIn) {
      const login = make("a", "", "Log in");
      login.href = page.dataset.loginUrl;
      notice.append("Nothing can be sent any more. ", login, ", and send the requests again.");
    } else {
      const chats = make("a", "", "Chats");
      chats.href = page.dataset.chatsUrl;
      const again = make("button", "", "Send the unanswered requests again");
      again.type = "button";
      again.addEventListener("click", () => retry(round));
      notice.append("Requests that had left the queue are still answered; their answers will be in ", chats, ". Requests that were waiting are dropped. Check that the gateway is running. ", again);
    }
    byId("problem").replaceChildren(notice);
  }

  function retry(round) {
    byId("problem").replaceChildren();
    round.element.tabIndex = -1;
    round.element.focus();
    round.send();
  }

  function showProgram() {
    const program = window.writeProgram[kind](sentLast || readForm());
    byId("code").textContent = program;
    const needs = program.includes("import httpx") ? " It needs the Python package httpx." : "";
    const key = "needsKey" in page.dataset ? " Set LLMBATCH_API_KEY to a key from the admin or from ./gateway create_api_key." : "";
    byId("code-note").textContent = `${sentLast ? "This sends what you sent last." : "This sends what the form holds."}${needs}${key}`;
  }

  function choose(tab) {
    for (const one of page.querySelectorAll("[role=tab]")) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
    }
    byId("code-panel").setAttribute("aria-labelledby", tab.id);
    kind = tab.dataset.kind;
    showProgram();
  }

  function moveTab(event) {
    const tabs = [...page.querySelectorAll("[role=tab]")];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    choose(next);
  }

  async function copy() {
    const button = byId("copy");
    button.textContent = (await writeClipboard(byId("code").textContent)) ? "Copied" : "Press Ctrl+C";
    byId("announcement").textContent = button.textContent;
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  }

  /** Browsers offer the clipboard over https and on localhost; elsewhere the selection is copied. */
  async function writeClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      getSelection().selectAllChildren(byId("code"));
      return document.execCommand("copy");
    }
  }

  function showEffects() {
    byId("lane-effects").textContent = priority.selectedOptions[0].dataset.effects;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  form.addEventListener("input", () => {
    checkForm();
    showEffects();
    if (!sentLast) showProgram();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("send-max").addEventListener("click", () => form.reportValidity() && send(count.max));
  byId("copy").addEventListener("click", copy);
  for (const tab of page.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", moveTab);
  }
  window.addEventListener("pagehide", () => rounds.forEach((round) => round.ended || round.abandon()));
  checkForm();
  showEffects();
  showProgram();
})();
