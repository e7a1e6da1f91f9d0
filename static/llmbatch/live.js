// The live page: one WebSocket that reconnects by itself, and the drawing of its frames.
"use strict";

(() => {
  const MAX_CHIPS = 24;
  const SILENCE_MS = 12000; // the gateway sends a frame at least every 5 s
  const FIRST_PAUSE_MS = 500;
  const MAX_PAUSE_MS = 10000;
  const ANNOUNCE_MS = 5000;
  const REFUSED = [4401, 4403];

  const byId = (id) => document.getElementById(id);
  const board = byId("live");
  const model = new window.LiveModel(() => performance.now());
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let socket = null;
  let pauseMs = FIRST_PAUSE_MS;
  let receivedAt = null;
  let retryAt = 0;
  let retry = 0;
  let problem = "";
  let dirty = false;
  let announcedAt = 0;

  function connect() {
    clearTimeout(retry);
    retryAt = 0;
    const address = new URL("/ws/live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const opened = new WebSocket(address);
    socket = opened;
    opened.onmessage = (message) => socket === opened && handleFrame(JSON.parse(message.data));
    opened.onclose = (closing) => socket === opened && reconnectLater(closing);
  }

  function handleFrame(frame) {
    receivedAt = new Date();
    if (frame.type === "error") {
      problem = frame.detail;
      return;
    }
    problem = "";
    pauseMs = FIRST_PAUSE_MS;
    model.handleFrame(frame);
    dirty = true;
    if (frame.type === "state") showModel();
    if (frame.type === "events" && frame.events.some((event) => event.kind === "model")) showModel();
  }

  function reconnectLater(closing) {
    socket = null;
    problem = closing.reason || problem;
    if (REFUSED.includes(closing.code)) pauseMs = MAX_PAUSE_MS;
    const waitMs = pauseMs * (0.75 + Math.random() / 2);
    pauseMs = Math.min(MAX_PAUSE_MS, pauseMs * 2);
    retryAt = performance.now() + waitMs;
    retry = setTimeout(connect, waitMs);
    showLink();
  }

  function giveUp() {
    const silent = socket;
    socket = null;
    silent.close();
    reconnectLater({ code: 0, reason: "The gateway sent nothing for a while." });
  }

  function showLink() {
    const live = socket && socket.readyState === WebSocket.OPEN && model.lanes.size > 0 && !problem;
    const before = receivedAt || problem;
    const seen = receivedAt ? `The page shows the state of ${receivedAt.toLocaleTimeString()}.` : "";
    const text = before ? ["Not live.", problem, seen].filter(Boolean).join(" ") : "Connecting …";
    const leftS = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
    const next = retryAt ? `Reconnecting in ${leftS} s.` : "Connecting …";
    setText(byId("link"), live ? "Live" : text);
    setText(byId("link-next"), live || !before ? "" : next); // outside the status element, because it changes often
    byId("link").dataset.state = live ? "on" : "off";
    board.classList.toggle("stale", !live);
  }

  function showModel() {
    const banner = byId("model");
    if (!model.model || !model.model.state) return;
    if (model.model.state === "ok") {
      banner.replaceChildren();
      return;
    }
    const notice = make("p", `notice ${model.model.level}`, model.model.text);
    notice.setAttribute("role", "status");
    notice.dataset.state = model.model.state;
    if (banner.textContent.trim() !== model.model.text) banner.replaceChildren(notice);
  }

  function draw() {
    for (const card of board.querySelectorAll("[data-lane]")) {
      const lane = model.lanes.get(card.dataset.lane);
      if (lane) drawLane(card, lane);
    }
    drawRunning();
    drawOutcomes();
    byId("finished").hidden = !model.outcomes.length;
    byId("empty").hidden = Boolean(model.waiting || model.running.size || model.outcomes.length);
  }

  function drawLane(card, lane) {
    setText(card.querySelector(".depth"), `${lane.depth} waiting`);
    const rule = `up to ${lane.max_batch} per call, window ${seconds(lane.window_s * 1000)}`;
    setText(card.querySelector(".rule"), rule);
    const shown = [...lane.items.values()].slice(0, MAX_CHIPS);
    const list = card.querySelector(".chips");
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
      card.classList.toggle("ended", Boolean(batch.endedAt));
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
    const trigger = batch.trigger === "full" ? "sent full" : "sent after its window";
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
      const duration = outcome.duration_ms === null ? "–" : seconds(outcome.duration_ms);
      row.append(make("td", "figure", duration));
      return row;
    });
  }

  function drawTimes() {
    const now = performance.now();
    for (const card of board.querySelectorAll("[data-lane]")) {
      const lane = model.lanes.get(card.dataset.lane);
      if (lane) drawDue(card, lane, now);
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

  function drawDue(card, lane, now) {
    const dues = [...lane.items.values()].map((item) => item.dueAt);
    const leftMs = dues.length ? Math.min(...dues) - now : null;
    const windowMs = lane.window_s * 1000;
    const bar = card.querySelector("progress");
    bar.value = leftMs === null || !windowMs ? 0 : Math.min(1, Math.max(0, 1 - leftMs / windowMs));
    let text = "empty";
    if (leftMs !== null) text = leftMs > 0 ? `due in ${seconds(leftMs)}` : "due: waiting for a free call slot";
    setText(card.querySelector(".due"), text);
  }

  function announce() {
    if (performance.now() - announcedAt < ANNOUNCE_MS || !model.lanes.size) return;
    announcedAt = performance.now();
    const last = model.outcomes[0];
    const ended = last ? ` Last batch, ${last.batch_id}: ${last.answered} answered, ${last.failed} failed.` : "";
    setText(byId("summary"), `${model.waiting} waiting, ${model.busy.length} batches running.${ended}`);
  }

  /** Makes the children match `items` in their order, without touching those that stay. */
  function keepChildren(list, items, keyOf, build) {
    const wanted = new Map(items.map((item) => [String(keyOf(item)), item]));
    for (const child of [...list.children]) {
      if (child.dataset.key && !wanted.has(child.dataset.key)) child.remove();
    }
    const present = new Map([...list.children].map((child) => [child.dataset.key, child]));
    let previous = null;
    for (const [key, item] of wanted) {
      let child = present.get(key);
      if (!child) {
        child = build(item);
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

  function tick() {
    if (socket && receivedAt && Date.now() - receivedAt.getTime() > SILENCE_MS) giveUp();
    if (model.tidy() || dirty) draw();
    dirty = false;
    drawTimes();
    showLink();
    announce();
    setTimeout(tick, calm.matches ? 500 : 100);
  }

  window.addEventListener("online", () => socket || connect());
  document.addEventListener("visibilitychange", () => document.hidden || socket || connect());
  connect();
  tick();
})();
