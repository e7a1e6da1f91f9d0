// The live page: one WebSocket that connects again by itself, and what it tells, drawn.
"use strict";

(() => {
  const MOST_CHIPS = 24;
  const SILENCE_MS = 12000; // the gateway says something every 5 s
  const FIRST_PAUSE_MS = 500;
  const LONGEST_PAUSE_MS = 10000;
  const SUMMARY_MS = 5000;
  const REFUSED = [4401, 4403];

  const byId = (id) => document.getElementById(id);
  const board = byId("live");
  const model = new window.LiveModel(() => performance.now());
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let socket = null;
  let pauseMs = FIRST_PAUSE_MS;
  let heardAt = null;
  let retryAt = 0;
  let retry = 0;
  let trouble = "";
  let dirty = false;
  let saidAt = 0;

  function connect() {
    clearTimeout(retry);
    retryAt = 0;
    const address = new URL("/ws/live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const opened = new WebSocket(address);
    socket = opened;
    opened.onmessage = (message) => socket === opened && hear(JSON.parse(message.data));
    opened.onclose = (closing) => socket === opened && reconnectLater(closing);
  }

  function hear(frame) {
    heardAt = new Date();
    if (frame.type === "error") {
      trouble = frame.detail;
      return;
    }
    trouble = "";
    pauseMs = FIRST_PAUSE_MS;
    model.hear(frame);
    dirty = true;
    if (frame.type === "state") showModel();
    if (frame.type === "events" && frame.events.some((event) => event.kind === "model")) showModel();
  }

  function reconnectLater(closing) {
    socket = null;
    trouble = closing.reason || trouble;
    if (REFUSED.includes(closing.code)) pauseMs = LONGEST_PAUSE_MS;
    const waitMs = pauseMs * (0.75 + Math.random() / 2);
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
    retryAt = performance.now() + waitMs;
    retry = setTimeout(connect, waitMs);
    showLink();
  }

  function giveUp() {
    const silent = socket;
    socket = null;
    silent.close();
    reconnectLater({ code: 0, reason: "The gateway said nothing for a while." });
  }

  function showLink() {
    const live = socket && socket.readyState === WebSocket.OPEN && model.lanes.size > 0 && !trouble;
    const before = heardAt || trouble;
    const seen = heardAt ? `What is shown is of ${heardAt.toLocaleTimeString()}.` : "";
    const words = before ? ["Not live.", trouble, seen].filter(Boolean).join(" ") : "Connecting …";
    const leftS = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
    const next = retryAt ? `Trying again in ${leftS} s.` : "Connecting …";
    setText(byId("link"), live ? "Live" : words);
    setText(byId("link-next"), live || !before ? "" : next); // outside the status: it changes often
    byId("link").dataset.state = live ? "on" : "off";
    board.classList.toggle("stale", !live);
  }

  function showModel() {
    const place = byId("model");
    if (!model.model || !model.model.state) return;
    if (model.model.state === "ok") {
      place.replaceChildren();
      return;
    }
    const notice = make("p", `notice ${model.model.level}`, model.model.text);
    notice.setAttribute("role", "status");
    notice.dataset.state = model.model.state;
    if (place.textContent.trim() !== model.model.text) place.replaceChildren(notice);
  }

  function draw() {
    for (const place of board.querySelectorAll("[data-lane]")) {
      const lane = model.lanes.get(place.dataset.lane);
      if (lane) drawLane(place, lane);
    }
    drawRunning();
    drawOutcomes();
    byId("ended").hidden = !model.outcomes.length;
    byId("empty").hidden = Boolean(model.waiting || model.running.size || model.outcomes.length);
  }

  function drawLane(place, lane) {
    setText(place.querySelector(".depth"), `${lane.depth} waiting`);
    const rule = `up to ${lane.max_batch} per call, window ${seconds(lane.window_s * 1000)}`;
    setText(place.querySelector(".rule"), rule);
    const shown = [...lane.items.values()].slice(0, MOST_CHIPS);
    const list = place.querySelector(".chips");
    keepChildren(list, shown, (item) => item.id, (item) => make("li", "chip", item.username));
    list.querySelector(".more")?.remove();
    const hidden = lane.depth - shown.length;
    if (hidden > 0) list.append(make("li", "more quiet", `and ${hidden} more`));
  }

  function drawRunning() {
    const batches = [...model.running.values()];
    keepChildren(byId("running"), batches, (batch) => batch.id, makeBatch);
    for (const batch of batches) {
      const card = byId("running").querySelector(`[data-key="${batch.id}"]`);
      card.classList.toggle("over", Boolean(batch.endedAt));
      for (const chip of card.querySelectorAll(".chip")) {
        const code = batch.ended.get(Number(chip.dataset.key));
        if (code === undefined || chip.dataset.ended) continue;
        chip.dataset.ended = code ? "bad" : "good";
        chip.append(make("span", "hidden", code ? `: ${code}` : ": answered"));
        chip.title = code || "answered";
      }
    }
    const busy = model.busy.length;
    byId("running-none").hidden = model.running.size > 0;
    setText(byId("running-count"), busy ? `${busy} ${busy === 1 ? "batch" : "batches"}` : "");
  }

  function makeBatch(batch) {
    const card = make("li", `batch lane-${batch.lane.toLowerCase()}`);
    const title = make("p", "batch-title");
    const trigger = batch.trigger === "full" ? "left full" : "left after its window";
    title.append(linkTo(batch.id), make("span", "quiet", ` ${batch.lane}, ${trigger}`));
    title.append(make("span", "elapsed"));
    const chips = make("ul", "chips");
    for (const item of batch.items) {
      const chip = make("li", "chip", item.username);
      chip.dataset.key = item.id;
      chips.append(chip);
    }
    card.append(title, chips);
    return card;
  }

  function drawOutcomes() {
    keepChildren(byId("outcomes"), model.outcomes, (outcome) => outcome.batch_id, (outcome) => {
      const row = make("tr", `lane-${outcome.lane.toLowerCase()}`);
      const name = make("th");
      name.scope = "row";
      name.append(linkTo(outcome.batch_id));
      row.append(name, make("td", "", outcome.lane));
      for (const figure of [outcome.size, outcome.answered, outcome.failed, outcome.calls]) {
        row.append(make("td", "figure", String(figure)));
      }
      if (outcome.failed) row.children[4].classList.add("bad");
      const took = outcome.duration_ms === null ? "–" : seconds(outcome.duration_ms);
      row.append(make("td", "figure", took));
      return row;
    });
  }

  function drawTimes() {
    const now = performance.now();
    for (const place of board.querySelectorAll("[data-lane]")) {
      const lane = model.lanes.get(place.dataset.lane);
      if (lane) drawDue(place, lane, now);
    }
    for (const card of byId("running").children) {
      const batch = model.running.get(Number(card.dataset.key));
      if (!batch) continue;
      if (batch.endedAt) {
        setText(card.querySelector(".elapsed"), `ended after ${seconds(batch.endedAt - batch.beganAt)}`);
        continue;
      }
      const calls = [...batch.calls.values()].map((began) => seconds(now - began));
      const text = calls.length ? `call running ${calls.join(", ")}` : "between calls";
      setText(card.querySelector(".elapsed"), `${seconds(now - batch.beganAt)}, ${text}`);
    }
  }

  function drawDue(place, lane, now) {
    const dues = [...lane.items.values()].map((item) => item.dueAt);
    const leftMs = dues.length ? Math.min(...dues) - now : null;
    const windowMs = lane.window_s * 1000;
    const bar = place.querySelector("progress");
    bar.value = leftMs === null || !windowMs ? 0 : Math.min(1, Math.max(0, 1 - leftMs / windowMs));
    let text = "empty";
    if (leftMs !== null) text = leftMs > 0 ? `due in ${seconds(leftMs)}` : "due: leaves with the next free call";
    setText(place.querySelector(".due"), text);
  }

  function sayInWords() {
    if (performance.now() - saidAt < SUMMARY_MS || !model.lanes.size) return;
    saidAt = performance.now();
    const last = model.outcomes[0];
    const ended = last ? ` Batch ${last.batch_id} ended last: ${last.answered} answered, ${last.failed} failed.` : "";
    setText(byId("summary"), `${model.waiting} waiting, ${model.busy.length} batches running.${ended}`);
  }

  /** Makes the children those of `things`, in their order; those that stay are not touched. */
  function keepChildren(list, things, keyOf, build) {
    const wanted = new Map(things.map((thing) => [String(keyOf(thing)), thing]));
    for (const child of [...list.children]) {
      if (child.dataset.key && !wanted.has(child.dataset.key)) child.remove();
    }
    const there = new Map([...list.children].map((child) => [child.dataset.key, child]));
    let previous = null;
    for (const [key, thing] of wanted) {
      let child = there.get(key);
      if (!child) {
        child = build(thing);
        child.dataset.key = key;
      }
      const next = previous ? previous.nextElementSibling : list.firstElementChild;
      if (next !== child) list.insertBefore(child, next);
      previous = child;
    }
  }

  function linkTo(batchId) {
    const link = make("a", "", `batch ${batchId}`);
    link.href = board.dataset.batchUrl.replace(/0$/, batchId);
    return link;
  }

  function make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function setText(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

  function seconds(ms) {
    return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  }

  function turn() {
    if (socket && heardAt && Date.now() - heardAt.getTime() > SILENCE_MS) giveUp();
    if (model.tidy() || dirty) draw();
    dirty = false;
    drawTimes();
    showLink();
    sayInWords();
    setTimeout(turn, calm.matches ? 500 : 100);
  }

  window.addEventListener("online", () => socket || connect());
  document.addEventListener("visibilitychange", () => document.hidden || socket || connect());
  connect();
  turn();
})();
