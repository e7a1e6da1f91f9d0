// The requests of one press of the button: their socket, their cards and their batches.
"use strict";

(() => {
  const LOOKUP_MS = 60; // dispatches within this time are looked up together
  const TONES = 6;
  const LOGGED_OUT = [4401, 4403];
  const plural = (count, noun, more = `${noun}s`) => `${count} ${count === 1 ? noun : more}`;

  class Round {
    /** Calls `changed(round)` after every change of a state, `stopped(round, text, mustLogIn)` when the connection fails. */
    constructor(sent, urls, { changed, stopped }) {
      this.sent = sent;
      this.urls = urls;
      this.changed = changed;
      this.stopped = stopped;
      this.groups = new Map();
      this.batches = {};
      this.cards = Array.from({ length: sent.count }, (_, i) => {
        const prompt = sent.prompt.replaceAll("{n}", String(i + 1));
        return new window.PlaygroundCard(i + 1, prompt, (card) => this.cancel(card));
      });
      this.build();
    }

    build() {
      const make = window.makeElement;
      this.element = make("article", this.sent.count > 1 ? "round many" : "round");
      const title = make("h3", "", `${plural(this.sent.count, "request")}, ${this.sent.priority}`);
      title.append(" ", make("small", "quiet", new Date().toLocaleTimeString()));
      this.summary = make("p", "summary");
      this.waiting = this.makeGroup("waiting");
      this.waiting.list.append(...this.cards.map((card) => card.element));
      this.element.append(title, this.summary, this.waiting.element);
      this.draw();
    }

    makeGroup(className) {
      const make = window.makeElement;
      const group = { element: make("section", `group ${className}`), title: make("h4"), list: make("ul", "cards") };
      group.element.append(group.title, group.list);
      return group;
    }

    get ended() {
      return this.cards.every((card) => card.ended);
    }

    /** Sends every card without an answer under its old id, so that no prompt is answered twice. */
    send() {
      for (const card of this.cards) if (card.state === "lost") card.renew();
      const address = new URL("/ws/query", location.href);
      address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      const socket = new WebSocket(address);
      this.socket = socket;
      this.opened = false;
      this.problem = "";
      socket.onopen = () => this.ask();
      socket.onmessage = (message) => this.socket === socket && this.handleFrame(JSON.parse(message.data));
      socket.onclose = (closing) => this.socket === socket && this.stop(closing.code, closing.reason);
      this.patience = setTimeout(() => this.giveUp(), (this.sent.patienceS + 10) * 1000);
      this.draw();
    }

    ask() {
      this.opened = true;
      const { username, priority } = this.sent;
      for (const card of this.cards) {
        if (card.ended) continue;
        const query = { username, priority, prompt: card.prompt, request_id: card.id };
        this.sendFrame({ type: "query", stream: true, ref: String(card.number), ...query });
      }
    }

    sendFrame(frame) {
      this.socket.send(JSON.stringify(frame));
    }

    cancel(card) {
      const { username } = this.sent;
      this.sendFrame({ type: "cancel", request_id: card.id, username, ref: String(card.number) });
    }

    handleFrame(frame) {
      const card = this.cards[Number(frame.ref) - 1];
      if (!card) {
        if (frame.type === "error") this.problem = frame.detail;
        return;
      }
      const before = card.state;
      if (!card.ended) card.handleFrame(frame);
      if (card.state === before) return;
      if (frame.type === "done") this.recordBatch(card, frame);
      if (card.batchId === null && !card.waiting) this.lookUpSoon();
      if (this.ended) this.finish();
      this.draw();
    }

    recordBatch(card, frame) {
      this.batches[frame.batch_id] ||= { size: frame.batch_size, calls: 1 };
      this.moveToBatch(card, frame.batch_id);
    }

    finish() {
      this.leave();
      this.lookUp(); // the number of calls is final now
    }

    leave() {
      const socket = this.socket;
      this.socket = null;
      clearTimeout(this.patience);
      if (socket) socket.close();
    }

    giveUp() {
      this.stop(0, "The gateway sent nothing for too long.");
    }

    stop(code, reason) {
      const fallback = this.opened ? "The connection broke." : "The gateway cannot be reached.";
      const text = this.problem || reason || fallback;
      this.abandon(text);
      this.stopped(this, text, LOGGED_OUT.includes(code));
    }

    abandon(text = "The page was closed.") {
      this.leave();
      for (const card of this.cards) card.lose(text);
      this.draw();
    }

    lookUpSoon() {
      this.lookup ||= setTimeout(() => {
        this.lookup = 0;
        this.lookUp();
      }, LOOKUP_MS);
    }

    /** Looks up the batches of the cards. If that fails, each answer names its own batch. */
    async lookUp() {
      const query = new URLSearchParams(this.cards.map((card) => ["id", card.id]));
      try {
        const reply = await fetch(`${this.urls.batches}?${query}`);
        const known = await reply.json();
        Object.assign(this.batches, known.batches);
        for (const card of this.cards) {
          if (known.requests[card.id]) this.moveToBatch(card, known.requests[card.id]);
        }
      } catch {
        return; // the socket reports that the gateway or the session is gone
      }
      this.draw();
    }

    moveToBatch(card, batchId) {
      card.batchId = batchId;
      let group = this.groups.get(batchId);
      if (!group) {
        group = this.makeGroup("batch");
        group.element.dataset.tone = String((batchId % TONES) + 1);
        this.groups.set(batchId, group);
        const ids = [...this.groups.keys()].sort((one, other) => one - other);
        const next = this.groups.get(ids[ids.indexOf(batchId) + 1]);
        this.element.insertBefore(group.element, next ? next.element : null);
      }
      if (card.element.parentNode === group.list) return;
      const later = [...group.list.children].find((other) => Number(other.dataset.number) > card.number);
      card.element.dataset.number = String(card.number);
      const focused = document.activeElement;
      group.list.insertBefore(card.element, later || null);
      if (focused && card.element.contains(focused)) focused.focus();
    }

    draw() {
      const alone = this.cards.filter((card) => card.batchId === null);
      const waiting = alone.filter((card) => !card.ended).length;
      this.waiting.element.hidden = !alone.length;
      this.waiting.title.textContent = waiting ? `waiting in ${this.sent.priority}: ${waiting}` : "not in a batch";
      for (const [id, group] of this.groups) {
        if (group.list.children.length) this.drawTitle(id, group);
        else this.drop(id, group);
      }
      this.summary.textContent = this.describe();
      this.changed(this);
    }

    /** Removes a batch whose requests were returned to the queue and left in another batch. */
    drop(id, group) {
      group.element.remove();
      this.groups.delete(id);
    }

    drawTitle(id, group) {
      const batch = this.batches[id];
      const own = group.list.children.length;
      const others = batch.size - own;
      group.element.classList.toggle("wide", own > 4);
      const calls = batch.calls > 1 ? plural(batch.calls, "model call") : "one model call";
      const shared = others > 0 ? ` (${others} not shown here)` : "";
      const text = `: ${plural(batch.size, "request")}${shared}, ${calls}`;
      if (group.title.textContent === `batch ${id}${text}`) return;
      const link = group.title.querySelector("a") || window.makeElement("a", "", `batch ${id}`);
      link.href = this.urls.batch.replace(/0$/, id);
      if (!link.parentNode) group.title.append(link);
      while (link.nextSibling) link.nextSibling.remove();
      group.title.append(text);
    }

    count(...states) {
      return this.cards.filter((card) => states.includes(card.state)).length;
    }

    describe() {
      if (this.ended) return this.conclude();
      const parts = [
        [this.count("sending"), "being sent"],
        [this.count("queued"), "waiting"],
        [this.count("batched", "writing"), "being answered"],
        [this.count("done"), "answered"],
        [this.count("failed", "lost"), "failed"],
        [this.count("cancelled"), "cancelled"],
      ];
      return parts.filter(([count]) => count).map(([count, label]) => `${count} ${label}`).join(", ");
    }

    conclude() {
      const ids = [...this.groups.keys()];
      const calls = ids.reduce((sum, id) => sum + this.batches[id].calls, 0);
      const batched = this.cards.filter((card) => card.batchId !== null).length;
      const saved = batched - calls;
      const ends = [
        [this.count("failed"), "failed"],
        [this.count("cancelled"), "cancelled"],
        [this.count("lost"), "without an answer"],
      ];
      const bad = ends.filter(([count]) => count).map(([count, label]) => `, ${count} ${label}`).join("");
      const sum = [
        plural(this.cards.length, "request"),
        plural(ids.length, "batch", "batches"),
        plural(calls, "model call"),
      ].join(", ");
      const gain = saved > 0 ? `; ${plural(saved, "call")} saved` : "";
      return `${sum}${gain}${bad}.`;
    }
  }

  window.PlaygroundRound = Round;
})();
