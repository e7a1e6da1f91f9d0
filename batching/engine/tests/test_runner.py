"""Tests of all calls of one batch: no item is lost or mixed up, and no needless call is made."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from batching.engine.errors import (
    Blocked,
    UpstreamError,
    UpstreamRejectedKey,
)
from batching.engine.lanes import Priority
from batching.engine.model import CallFailed, Piece, Remedy
from batching.engine.prompt import CombinedPrompt
from batching.engine.runner import MAX_ATTEMPTS, STALL_S
from batching.engine.tests.scripted import (
    Bench,
    Step,
    answer_of,
    ask,
    overloaded,
    prompts_of,
    reply_to,
    value_start,
    whole,
)
from batching.engine.tests.virtual_loop import run_virtual
from batching.engine.usage import TokenUsage


def run_bench(script: object, **kwargs: object) -> Bench:
    async def main() -> Bench:
        return await Bench(script, **kwargs).run()

    return run_virtual(main())


def finish(text: str, reason: str | None = "STOP") -> list[Step]:
    usage = TokenUsage(prompt=10, output=5, thoughts=1)
    return [Piece(text, finish_reason=reason, usage=usage)]


def test_correct_reply_answers_all_items_with_one_call() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt))
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6]
    assert bench.codes == {}


def test_answers_in_shuffled_order_reach_their_own_items() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        answers = {key: answer_of(text) for key, text in prompts_of(prompt).items()}
        return finish(json.dumps(dict(reversed(answers.items()))))

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6]


def test_each_answer_is_released_when_its_value_is_complete() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        cuts = [value_start(reply, key) for key in prompt.keys[1:]] + [len(reply)]
        steps: list[Step] = []
        for start, end in zip([0, *cuts], cuts, strict=False):
            steps += [1.0, Piece(reply[start:end])]
        return [*steps, 0.4, *finish("")]

    bench = run_bench(script)
    assert [round(bench.elapsed(i)) for i in range(6)] == [1, 2, 3, 4, 5, 6]
    assert all(answer.estimated for answer in bench.recorder.answers.values())


def test_item_without_an_answer_is_retried_alone() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt, leave_out=[3] if n == 1 else []))
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6, 1]
    assert list(prompts_of(bench.model.calls[1]).values()) == [ask(3)]


def test_answer_that_is_always_missing_fails_after_three_calls() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        texts = list(prompts_of(prompt).values())
        return whole(prompt, leave_out=[texts.index(ask(2))] if ask(2) in texts else [])

    bench = run_bench(script)
    assert bench.codes == {2: "missing_answer"}
    assert bench.model.sizes == [6, 1, 1]
    assert bench.items[2].attempts == MAX_ATTEMPTS


def test_empty_answer_is_never_delivered() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return finish(json.dumps(dict.fromkeys(prompt.keys, "  \n")))

    bench = run_bench(script, count=2)
    assert bench.codes == {0: "missing_answer", 1: "missing_answer"}
    assert bench.model.sizes == [2, 1, 1, 1, 1]


def test_reply_cut_by_the_output_limit_repeats_only_the_unfinished() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        if n > 1:
            return finish(reply)
        return finish(reply[: reply.index(prompt.keys[3]) + 20], "MAX_TOKENS")

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6, 1, 1, 1]


def test_single_cut_by_the_output_limit_is_truncated_at_once() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return finish(reply_to(prompt)[:20], "MAX_TOKENS")

    bench = run_bench(script, count=1)
    assert bench.codes == {0: "truncated"}
    assert bench.model.sizes == [1]


def test_reply_that_ends_without_a_reason_counts_as_cut() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        reply = reply_to(prompt)
        return [Piece(reply[: value_start(reply, prompt.keys[1])])]

    bench = run_bench(script, count=3)
    assert len(bench.recorder.answers) == 3
    assert bench.model.sizes == [3, 1, 1]


def test_blocked_batch_fails_only_the_blocked_item() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if ask(4) in prompts_of(prompt).values():
            return [Piece(block_reason="SAFETY", usage=TokenUsage(prompt=10))]
        return whole(prompt)

    bench = run_bench(script)
    assert bench.codes == {4: "blocked"}
    assert "SAFETY" in str(bench.recorder.errors[4])
    assert sorted(bench.model.sizes, reverse=True) == [6] + [1] * 6


def test_two_refused_prompts_cost_one_further_call_each_at_most() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if {ask(1), ask(5)} & set(prompts_of(prompt).values()):
            raise CallFailed(UpstreamError("bad request"), Remedy.ALONE_ONCE)
        return whole(prompt)

    bench = run_bench(script)
    assert bench.codes == {1: "upstream_error", 5: "upstream_error"}
    assert len(bench.model.calls) == 7


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII"])
def test_answer_stopped_for_safety_does_not_affect_answers_before_it(reason: str) -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        texts = list(prompts_of(prompt).values())
        if ask(2) not in texts:
            return whole(prompt)
        reply = reply_to(prompt)
        return finish(reply[: reply.index(prompt.keys[texts.index(ask(2))]) + 12], reason)

    bench = run_bench(script, count=4)
    assert bench.codes == {2: "blocked"}
    assert bench.model.sizes == [4, 1, 1]


def test_unknown_finish_reason_is_retried_and_named() -> None:
    bench = run_bench(lambda n, prompt: finish("", "MALFORMED_RESPONSE"), count=1)
    assert bench.codes == {0: "missing_answer"}
    assert "MALFORMED_RESPONSE" in str(bench.recorder.errors[0])
    assert bench.model.sizes == [1, 1, 1]


def test_overload_retries_the_unfinished_together_and_never_splits() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [overloaded()] if n < 3 else whole(prompt)

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6, 6, 6]


def test_lasting_overload_fails_after_three_calls() -> None:
    bench = run_bench(lambda n, prompt: [overloaded()])
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert bench.model.sizes == [6, 6, 6]


def test_backoff_grows_and_stays_within_its_bounds() -> None:
    bench = run_bench(lambda n, prompt: [overloaded()], count=1)
    first, second = (b - a for a, b in zip(bench.model.times, bench.model.times[1:], strict=False))
    assert 0.25 <= first <= 0.5
    assert 0.5 <= second <= 1.0


def test_service_decides_the_pause_that_it_requests() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [overloaded(7.0)] if n == 1 else whole(prompt)

    bench = run_bench(script)
    assert 7.0 <= bench.model.times[1] - bench.model.times[0] <= 7.1
    assert len(bench.recorder.answers) == 6


def test_requested_pause_beyond_the_deadline_fails_at_once_and_is_reported() -> None:
    bench = run_bench(lambda n, prompt: [overloaded(60.0)])
    assert set(bench.codes.values()) == {"upstream_unavailable"}
    assert all(60 <= (error.retry_after_s or 0) < 61 for error in bench.recorder.errors.values())
    assert bench.model.sizes == [6]
    assert bench.elapsed(0) == 0


def test_items_with_time_left_are_retried_without_those_that_have_none() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [overloaded(5.0)] if n == 1 else whole(prompt)

    bench = run_bench(script, count=3, wait_s=[2.0, 30.0, 30.0])
    assert bench.codes == {0: "upstream_unavailable"}
    assert bench.model.sizes == [3, 2]


def test_fault_after_some_answers_repeats_only_the_others() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        if n > 1:
            return whole(prompt)
        return [Piece(reply[: value_start(reply, prompt.keys[4])]), overloaded()]

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6, 2]


def test_rejected_key_fails_all_items_with_one_call() -> None:
    bench = run_bench(lambda n, p: [CallFailed(UpstreamRejectedKey(), Remedy.FAIL)])
    assert set(bench.codes.values()) == {"upstream_rejected_key"}
    assert bench.model.sizes == [6]


def test_call_that_hangs_before_its_reply_is_closed_and_retried() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [1000.0] if n == 1 else whole(prompt)

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert STALL_S <= bench.elapsed(0) <= STALL_S + 1
    assert bench.recorder.reports[0].perhaps_billed
    assert bench.recorder.reports[0].error is not None


def test_model_that_always_hangs_fails_at_the_deadline() -> None:
    bench = run_bench(lambda n, prompt: [1000.0], wait_s=30.5)
    assert set(bench.codes.values()) == {"timeout"}
    assert bench.elapsed(0) == pytest.approx(30.5)
    assert bench.model.sizes == [6, 6]


def test_model_that_hangs_after_some_answers_keeps_those() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        return [Piece(reply[: reply.index(prompt.keys[2]) - 1]), 1000.0]

    bench = run_bench(script, count=4, wait_s=10.0)
    assert bench.codes == {2: "timeout", 3: "timeout"}
    assert bench.elapsed(0) == 0
    assert bench.elapsed(2) == pytest.approx(10.0)


def test_slow_reply_is_not_mistaken_for_a_hang() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        steps: list[Step] = []
        for character in reply_to(prompt):
            steps += [0.4, Piece(character)]
        return [*steps, *finish("")]

    bench = run_bench(script, count=1, wait_s=300.0)
    assert bench.codes == {}
    assert bench.model.sizes == [1]
    assert bench.elapsed(0) > STALL_S / 2


def test_stream_that_never_ends_after_its_answers_frees_the_slot() -> None:
    bench = run_bench(lambda n, prompt: [Piece(reply_to(prompt)), 1000.0])
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6]
    assert bench.recorder.reports[0].error is None


def test_cancellation_inside_the_model_client_is_a_failed_call() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [asyncio.CancelledError()] if n == 1 else whole(prompt)

    bench = run_bench(script)
    assert len(bench.recorder.answers) == 6
    assert bench.model.sizes == [6, 6]


def test_cancelling_the_batch_ends_its_call_and_frees_its_slot() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [1000.0])
        bench.slots.take(Priority.HIGH)
        task = asyncio.create_task(bench.runner.run(bench.batch))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return bench

    bench = run_virtual(main())
    assert bench.slots.running == 0
    assert bench.model.running == 0
    assert bench.recorder.reports[0].perhaps_billed
    assert bench.recorder.errors == {}


def test_recorder_that_fails_makes_items_fail_and_loses_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: whole(prompt, leave_out=[0]))
        bench.recorder.broken[0] = RuntimeError("disk full")
        return await bench.run()

    bench = run_virtual(main())
    assert bench.codes == {0: "upstream_error"}
    assert str(bench.recorder.errors[0]) == "The gateway failed on this batch."
    assert len(bench.recorder.answers) == 5
    (record,) = caplog.records
    assert record.message == "A batch failed inside the gateway."
    assert record.__dict__["batch_id"] == 7


def test_single_call_that_cannot_start_affects_no_other() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, p: finish("no json") if n == 1 else [1.0, *whole(p)])
        bench.recorder.broken[2] = RuntimeError("disk full")
        return await bench.run()

    bench = run_virtual(main())
    assert bench.codes == {2: "upstream_error"}
    assert len(bench.recorder.answers) == 5


def test_single_calls_run_at_the_same_time() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return finish("no json") if n == 1 else [1.0, *whole(prompt)]

    bench = run_bench(script)
    assert bench.model.most_running == 6
    assert bench.elapsed(5) == pytest.approx(1.0)


def test_unknown_block_reason_blocks_the_item() -> None:
    bench = run_bench(lambda n, p: [Piece(block_reason="JAILBREAK")], count=1)
    assert isinstance(bench.recorder.errors[0], Blocked)
    assert bench.model.sizes == [1]


def test_no_call_is_made_for_items_that_another_process_runs_by_now() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, p: [overloaded()] if n == 1 else whole(p), count=3)
        bench.recorder.lost = {0, 2}
        bench.slots.take(Priority.HIGH)
        await bench.runner.run(bench.batch)
        assert bench.slots.running == 0
        return bench

    bench = run_virtual(main())
    assert bench.recorder.starts == [[0, 1, 2]]
    assert bench.model.sizes == [3, 1]
    assert (list(bench.recorder.answers), bench.codes) == ([1], {})


def test_batch_whose_items_are_all_lost_makes_no_further_call() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, p: [overloaded()], count=2)
        bench.recorder.lost = {0, 1}
        bench.slots.take(Priority.HIGH)
        await bench.runner.run(bench.batch)
        assert bench.slots.running == 0
        return bench

    bench = run_virtual(main())
    assert bench.model.sizes == [2]
    assert (bench.recorder.answers, bench.codes, bench.recorder.ended) == ({}, {}, [7])
