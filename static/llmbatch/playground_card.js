// One request of the playground: its state by the gateway's frames, and its card.
"use strict";

(() => {
  const LABELS = {
    sending: "sending",
    queued: "waiting",
    batched: "in a batch",
    writing: "answer is arriving",
    done: "answered",
    failed: "failed",
    cancelled: "cancelled",
    lost: "no answer",
  };
  const ENDED = ["done", "failed", "cancelled", "lost"];

  function make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  /** A random id of 32 characters. Browsers offer randomUUID only over https and on localhost. */
  function makeId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  class Card {
    constructor(number, prompt, cancel) {
      this.number = number;
      this.prompt = prompt;
      this.id = makeId();
      this.batchId = null;
      this.state = "sending";
      this.build(cancel);
      this.show("sending");
    }

    build(cancel) {
      this.element = make("li", "card");
      this.element.tabIndex = -1;
      const head = make("p", "card-head");
      this.badge = make("span", "badge");
      this.button = make("button", "cancel", "Cancel");
      this.button.type = "button";
      this.button.setAttribute("aria-label", `Cancel request ${this.number}`);
      this.button.addEventListener("click", () => cancel(this));
      head.append(make("strong", "number", String(this.number)), this.badge, this.button);
      const asked = make("p", "asked", this.prompt);
      asked.title = this.prompt;
      this.answer = make("div", "answer");
      this.text = this.answer.appendChild(document.createTextNode(""));
      this.note = make("p", "note quiet");
      this.element.append(head, asked, this.answer, this.note);
    }

    get ended() {
      return ENDED.includes(this.state);
    }

    get waiting() {
      return this.state === "sending" || this.state === "queued";
    }

    show(state, detail = "") {
      const focused = document.activeElement === this.button;
      this.state = state;
      this.element.dataset.state = state;
      this.badge.textContent = detail ? `${LABELS[state]}, ${detail}` : LABELS[state];
      this.button.hidden = state !== "queued";
      if (focused && this.button.hidden) this.element.focus();
    }

    setNote(text, bad = false) {
      this.note.textContent = text;
      this.note.classList.toggle("bad", bad);
    }

    handleFrame(frame) {
      if (frame.type === "accepted") this.accept(frame);
      else if (frame.type === "position") this.show("queued", describePosition(frame.position));
      else if (frame.type === "dispatched") this.show("batched");
      else if (frame.type === "text") this.write(frame.content);
      else if (frame.type === "restart") this.restart();
      else if (frame.type === "done") this.finish(frame);
      else if (frame.type === "error") this.fail(frame);
      else if (frame.type === "cancel" && frame.code) this.setNote(`Not cancelled: ${frame.detail}`);
    }

    /** Sends the request again under the same id: a stored answer is sent again, a running one is joined. */
    renew() {
      this.text.data = "";
      this.setNote("");
      this.show("sending");
    }

    accept(frame) {
      if (frame.position === null) this.show("batched");
      else this.show("queued", describePosition(frame.position));
    }

    write(content) {
      if (this.state !== "writing") this.show("writing");
      this.text.appendData(content);
      this.answer.scrollTop = this.answer.scrollHeight;
    }

    restart() {
      this.text.data = "";
      this.element.dataset.restarted = "yes";
      this.show("batched");
      this.setNote("The answer broke off and is requested again. Ignore the text so far.");
    }

    finish(frame) {
      this.batchId = frame.batch_id;
      this.show("done");
      this.answer.scrollTop = 0;
      this.makeScrollable();
      const about = frame.usage && frame.usage.estimated ? "about " : "";
      const retried = this.element.dataset.restarted ? " It broke off once and was requested again." : "";
      this.setNote(
        `${seconds(frame.latency_ms)}, ${seconds(frame.queue_ms)} of it waiting; ` +
          `${about}${frame.tokens_used} tokens.${retried}`,
      );
    }

    fail(frame) {
      this.text.data = "";
      const fields = Object.entries(frame.errors || {}).map(([name, reason]) => `${name}: ${reason}`);
      const later = frame.retry_after_s ? `Try again in ${frame.retry_after_s} s.` : "";
      const text = [...(fields.length ? fields : [frame.detail]), later].filter(Boolean).join(" ");
      if (frame.code === "cancelled") {
        this.show("cancelled");
        this.setNote(text);
        return;
      }
      this.show("failed", frame.code);
      this.setNote(text, true);
    }

    lose(text) {
      if (this.ended) return;
      this.show("lost");
      this.setNote(text, true);
    }

    /** Makes an answer that is longer than its box scrollable with the keyboard. */
    makeScrollable() {
      if (this.answer.scrollHeight <= this.answer.clientHeight) return;
      this.answer.tabIndex = 0;
      this.answer.setAttribute("role", "group");
      this.answer.setAttribute("aria-label", `Answer ${this.number}`);
    }
  }

  function describePosition(position) {
    return position === null ? "" : `position ${position}`;
  }

  function seconds(ms) {
    return `${(ms / 1000).toFixed(2)} s`;
  }

  window.PlaygroundCard = Card;
  window.makeElement = make;
})();
