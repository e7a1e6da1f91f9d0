// The state that the frames of /ws/live describe: queues, running batches and outcomes. It does not touch the page.
"use strict";

const MAX_GONE = 10000;
const MAX_OUTCOMES = 20;
const LINGER_MS = 1200; // an ended batch stays on the page for this long

class LiveModel {
  constructor(now) {
    this.now = now;
    this.lanes = new Map();
    this.running = new Map();
    this.outcomes = [];
    this.model = null;
    this.gone = new Set(); // a late event of an arrival must not bring a request back
  }

  handleFrame(frame) {
    if (frame.type === "state") this.replace(frame);
    if (frame.type !== "events") return;
    for (const event of frame.events) this.apply(event);
    for (const [name, depth] of Object.entries(frame.depths)) {
      if (this.lanes.has(name)) this.lanes.get(name).depth = depth;
    }
  }

  replace(state) {
    const now = this.now();
    this.model = state.model;
    this.outcomes = state.outcomes;
    this.lanes.clear();
    for (const [name, lane] of Object.entries(state.lanes)) {
      const items = new Map(lane.queued.map((item) => [item.id, withTimes(item, now)]));
      this.lanes.set(name, { ...lane, items });
    }
    const lingering = [...this.running.values()].filter((batch) => batch.endedAt);
    this.running = new Map(lingering.map((batch) => [batch.id, batch]));
    for (const batch of state.running) this.addBatch(batch, now);
  }

  apply(event) {
    const batch = this.running.get(event.batch_id);
    if (event.kind === "accepted") this.accept(event.items);
    else if (event.kind === "left") this.leave(event.ids);
    else if (event.kind === "dispatched") this.dispatch(event);
    else if (event.kind === "call_started" && batch) batch.calls.set(event.call_id, this.now());
    else if (event.kind === "call_ended" && batch) batch.calls.delete(event.call_id);
    else if (event.kind === "item_ended" && batch) batch.ended.set(event.id, event.code);
    else if (event.kind === "batch_ended") this.end(event, batch);
    else if (event.kind === "model") this.model = event.model;
  }

  accept(items) {
    for (const item of items) {
      const lane = this.lanes.get(item.lane);
      if (lane && !this.gone.has(item.id)) lane.items.set(item.id, withTimes(item, this.now()));
    }
  }

  leave(ids) {
    for (const id of ids) {
      for (const lane of this.lanes.values()) lane.items.delete(id);
      this.gone.add(id);
    }
    for (const id of this.gone) {
      if (this.gone.size <= MAX_GONE) break;
      this.gone.delete(id);
    }
  }

  dispatch(event) {
    this.leave(event.items.map((item) => item.id));
    if (this.running.has(event.batch_id)) return;
    if (this.outcomes.some((outcome) => outcome.batch_id === event.batch_id)) return;
    this.addBatch({ ...event, age_ms: 0, ended: [], calls: [] }, this.now());
  }

  addBatch(batch, now) {
    this.running.set(batch.batch_id, {
      id: batch.batch_id,
      lane: batch.lane,
      trigger: batch.trigger,
      beganAt: now - batch.age_ms,
      items: batch.items,
      ended: new Map(batch.ended.map((item) => [item.id, item.code])),
      calls: new Map(batch.calls.map((call) => [call.call_id, now - call.age_ms])),
      endedAt: 0,
    });
  }

  end(event, batch) {
    if (batch) {
      batch.endedAt = this.now();
      batch.calls.clear();
    }
    if (event.size === undefined) return;
    this.outcomes = this.outcomes.filter((outcome) => outcome.batch_id !== event.batch_id);
    this.outcomes = [event, ...this.outcomes].slice(0, MAX_OUTCOMES);
  }

  /** Drops batches that ended long enough ago; returns whether there were any. */
  tidy() {
    const before = this.running.size;
    for (const batch of this.running.values()) {
      if (batch.endedAt && this.now() - batch.endedAt > LINGER_MS) this.running.delete(batch.id);
    }
    return this.running.size !== before;
  }

  get waiting() {
    return [...this.lanes.values()].reduce((sum, lane) => sum + lane.depth, 0);
  }

  get busy() {
    return [...this.running.values()].filter((batch) => !batch.endedAt);
  }
}

function withTimes(item, now) {
  return { ...item, acceptedAt: now - item.age_ms, dueAt: now + item.due_in_ms };
}

window.LiveModel = LiveModel;
