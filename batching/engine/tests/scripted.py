"""Runs one batch with a model that follows a script and a recorder that keeps all in memory."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from batching.engine.deltas import TextDelta
from batching.engine.errors import (
    GatewayError,
    UpstreamUnavailable,
)
from batching.engine.items import Answer, BatchItem, CallReport, PreparedCall
from batching.engine.lanes import Priority, TokenBudget
from batching.engine.model import CallFailed, Piece, Remedy
from batching.engine.prompt import CombinedPrompt, combine
from batching.engine.runner import BatchRunner, RunnableBatch
from batching.engine.slots import CallSlots
from batching.engine.tests.traces import RULES
from batching.engine.usage import TokenUsage

Step = Piece | BaseException | float
Script = Callable[[int, CombinedPrompt], Sequence[Step]]


def ask(index: int) -> str:
    return f"question {index}"


def answer_of(prompt: str) -> str:
    return f"answer to {prompt}"


def prompts_of(prompt: CombinedPrompt) -> dict[str, str]:
    return json.loads(prompt.contents)


def reply_to(prompt: CombinedPrompt, *, leave_out: Sequence[int] = ()) -> str:
    answers = {key: answer_of(text) for key, text in prompts_of(prompt).items()}
    for index in leave_out:
        del answers[prompt.keys[index]]
    return json.dumps(answers)


def value_start(reply: str, key: str) -> int:
    """The position after the colon of the key: the value before is certain to have ended."""
    return reply.index(":", reply.index(key)) + 1


def whole(prompt: CombinedPrompt, **kwargs: Any) -> list[Step]:
    """A correct reply in one piece."""
    usage = TokenUsage(prompt=100, output=60, thoughts=20)
    return [Piece(reply_to(prompt, **kwargs), finish_reason="STOP", usage=usage)]


def overloaded(retry_after_s: float | None = None) -> CallFailed:
    return CallFailed(UpstreamUnavailable("busy"), Remedy.TOGETHER, retry_after_s=retry_after_s)


class ScriptedModel:
    """Plays the steps of `script(call number, prompt)`: pieces, pauses in seconds and errors."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[CombinedPrompt] = []
        self.times: list[float] = []
        self.timeouts: list[float] = []
        self.running = 0
        self.most_running = 0

    @property
    def sizes(self) -> list[int]:
        return [len(call.keys) for call in self.calls]

    async def stream(
        self, prompt: CombinedPrompt, *, timeout_s: float
    ) -> AsyncGenerator[Piece, None]:
        self.calls.append(prompt)
        self.timeouts.append(timeout_s)
        self.times.append(asyncio.get_running_loop().time())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for step in self._script(len(self.calls), prompt):
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, Piece):
                    yield step
                else:
                    await asyncio.sleep(step)
        finally:
            self.running -= 1


class MemoryRecorder:
    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.errors: dict[int, GatewayError] = {}
        self.suspicions: dict[int, str] = {}
        self.deltas: list[TextDelta] = []
        self.times: dict[int, float] = {}
        self.reports: list[CallReport] = []
        self.ended: list[int] = []
        self.batch_ids: set[int] = set()
        self.starts: list[list[int]] = []
        # What `start_call` raises for a call with this item.
        self.broken: dict[int, Exception] = {}
        # The items that another process runs by now.
        self.lost: set[int] = set()

    async def start_call(
        self, batch: RunnableBatch, items: Sequence[BatchItem]
    ) -> PreparedCall | None:
        await asyncio.sleep(0)
        self.batch_ids.add(batch.id)
        self.starts.append([item.id for item in items])
        for item in items:
            if item.id in self.broken:
                raise self.broken[item.id]
            item.finished |= item.id in self.lost
        items = [item for item in items if not item.finished]
        if not items:
            return None
        return prepare(items, call_id=100 + len(self.reports))

    def answer(self, batch: RunnableBatch, item: BatchItem, answer: Answer) -> None:
        assert item.id not in self.answers, "answered twice"
        assert item.id not in self.errors, "answered after it failed"
        self.batch_ids.add(batch.id)
        self.answers[item.id] = answer
        self.times[item.id] = asyncio.get_running_loop().time()

    def fail(self, batch: RunnableBatch, item: BatchItem, error: GatewayError) -> None:
        assert item.id not in self.answers, "failed after its answer"
        assert item.id not in self.errors, "failed twice"
        self.batch_ids.add(batch.id)
        self.errors[item.id] = error
        self.times[item.id] = asyncio.get_running_loop().time()

    def suspect(self, batch: RunnableBatch, item: BatchItem, reason: str) -> None:
        self.suspicions[item.id] = reason

    def on_delta(self, batch: RunnableBatch, delta: TextDelta) -> None:
        assert delta.item_id not in self.answers, "a delta came after its answer"
        self.deltas.append(delta)

    def end_call(self, batch: RunnableBatch, report: CallReport) -> None:
        self.batch_ids.add(batch.id)
        self.reports.append(report)

    def end_batch(self, batch: RunnableBatch) -> None:
        self.ended.append(batch.id)


def count_startable(slots: CallSlots, priority: Priority) -> int:
    """How many calls of this priority could start now."""
    count = 0
    while slots.may_start(priority):
        slots.take(priority)
        count += 1
    for _ in range(count):
        slots.release(priority)
    return count


def prepare(items: Sequence[BatchItem], *, call_id: int) -> PreparedCall:
    rng = random.Random(call_id)
    prompt = combine(
        [item.prompt for item in items],
        model="gemini-x",
        style="",
        output_tokens=sum(item.output_tokens for item in items),
        draw=lambda: f"{rng.getrandbits(32):08x}",
        budget=TokenBudget(),
    )
    return PreparedCall(call_id, prompt)


class Bench:
    """One batch of `count` items and a scripted model; the items have the ids 0 to count - 1."""

    def __init__(
        self,
        script: Script,
        *,
        count: int = 6,
        wait_s: float | Sequence[float] = 30.0,
        slots: int = 16,
        prompts: Sequence[str] = (),
    ) -> None:
        loop = asyncio.get_running_loop()
        self.model = ScriptedModel(script)
        self.recorder = MemoryRecorder()
        self.slots = CallSlots(slots, clock=loop.time)
        self.began = loop.time()
        waits = [wait_s] * count if isinstance(wait_s, float | int) else wait_s
        asked = prompts or [ask(index) for index in range(count)]
        self.items = tuple(
            BatchItem(i, asked[i], 1000, self.began + waits[i], self.began + 0.5)
            for i in range(count)
        )
        self.runner = BatchRunner(
            model=self.model,
            recorder=self.recorder,
            slots=self.slots,
            rng=random.Random(1),
            clock=loop.time,
        )
        self.batch = RunnableBatch(
            id=7,
            rule=RULES[Priority.HIGH],
            model="gemini-x",
            items=self.items,
            first_call=prepare(self.items, call_id=1),
        )

    async def run(self) -> "Bench":
        self.slots.take(Priority.HIGH)
        await self.runner.run(self.batch)
        assert self.slots.running == 0, "a call slot was not released"
        assert count_startable(self.slots, Priority.LOW) == self.slots.total - self.slots.reserve
        assert self.model.running == 0, "a call still runs although its batch has ended"
        assert self.recorder.ended == [7]
        assert self.recorder.batch_ids == {7}
        assert len(self.recorder.reports) == len(self.model.calls)
        assert self.recorder.answers.keys() | self.recorder.errors.keys() == set(
            range(len(self.items))
        )
        for index, answer in self.recorder.answers.items():
            expected = answer_of(self.items[index].prompt)
            assert answer.text == expected, "an answer went to the wrong item"
        return self

    @property
    def codes(self) -> dict[int, str]:
        return {index: error.code for index, error in self.recorder.errors.items()}

    def elapsed(self, index: int) -> float:
        return self.recorder.times[index] - self.began
