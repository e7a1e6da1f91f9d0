// The playground: its form, what was sent, and the programs that would send the same.
"use strict";

(() => {
  const MOST_ROUNDS = 6;
  const SAY_MS = 2500; // the screen reader hears how it goes at most so often
  const MOST_BYTES = 1000 * 1000 - 2000; // of the gateway's 1 MB, the rest for the frame
  const SHOWN_MS = 2000;

  const byId = (id) => document.getElementById(id);
  const make = window.makeElement;
  const page = byId("playground");
  const form = byId("ask");
  const { prompt, priority, username, count } = form.elements;
  const places = { batches: page.dataset.batchesUrl, batch: page.dataset.batchUrl };
  const rounds = [];
  let sentLast = null;
  let kind = "curl";
  let saidAt = 0;
  let saying = 0;

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
    const tooLarge = new Blob([JSON.stringify(prompt.value)]).size > MOST_BYTES;
    prompt.setCustomValidity(tooLarge ? "A prompt may have at most 1 MB." : "");
    username.setCustomValidity(username.value.trim() ? "" : "A name is needed.");
  }

  function send(many) {
    sentLast = readForm(many);
    const round = new window.PlaygroundRound(sentLast, places, { changed, stopped });
    rounds.unshift(round);
    byId("rounds").prepend(round.element);
    byId("empty").hidden = true;
    byId("trouble").replaceChildren();
    const old = rounds.slice(MOST_ROUNDS).filter((one) => one.ended);
    for (const one of old) {
      rounds.splice(rounds.indexOf(one), 1);
      one.element.remove();
    }
    round.send();
    showProgram();
    if (round.element.getBoundingClientRect().top > innerHeight / 2) round.element.scrollIntoView();
  }

  /** One sentence about the newest round, soon: never one for each letter or card. */
  function changed(round) {
    if (round !== rounds[0]) return;
    const waitMs = round.ended ? 0 : Math.max(0, saidAt + SAY_MS - performance.now());
    clearTimeout(saying);
    saying = setTimeout(() => {
      saidAt = performance.now();
      byId("said").textContent = round.summary.textContent;
    }, waitMs);
  }

  function stopped(round, words, mustLogIn) {
    const notice = make("p", "notice bad", `${words} `);
    notice.setAttribute("role", "alert");
    if (mustLogIn) {
      const login = make("a", "", "Log in");
      login.href = page.dataset.loginUrl;
      notice.append("Nothing more can be sent. ", login, ", and send it again.");
    } else {
      const chats = make("a", "", "Chats");
      chats.href = page.dataset.chatsUrl;
      const again = make("button", "", "Ask again for what has no answer");
      again.type = "button";
      again.addEventListener("click", () => retry(round));
      notice.append("What had left the queue is answered all the same and stands in ", chats, "; what still waited is dropped. Check that the gateway runs. ", again);
    }
    byId("trouble").replaceChildren(notice);
  }

  function retry(round) {
    byId("trouble").replaceChildren();
    round.element.tabIndex = -1;
    round.element.focus();
    round.send();
  }

  function showProgram() {
    byId("code").textContent = window.writeProgram[kind](sentLast || readForm());
    const key = "needsKey" in page.dataset ? " Set LLMBATCH_API_KEY to a key, made in the admin or by manage.py create_api_key." : "";
    byId("code-note").textContent = `${sentLast ? "As it was sent last." : "As the form stands."}${key}`;
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
    byId("said").textContent = button.textContent;
    setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  }

  /** The clipboard is there for pages over https and on localhost; elsewhere the selection is copied. */
  async function writeClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      getSelection().selectAllChildren(byId("code"));
      return document.execCommand("copy");
    }
  }

  function showLane() {
    byId("lane-words").textContent = priority.selectedOptions[0].dataset.words;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  form.addEventListener("input", () => {
    checkForm();
    showLane();
    if (!sentLast) showProgram();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("send-most").addEventListener("click", () => form.reportValidity() && send(count.max));
  byId("copy").addEventListener("click", copy);
  for (const tab of page.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", moveTab);
  }
  window.addEventListener("pagehide", () => rounds.forEach((round) => round.ended || round.abandon()));
  checkForm();
  showLane();
  showProgram();
})();
