"""Tests of one call: the usage of its answers and the content of its report."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from batching.engine.call import END_WAIT_S, ENDING_WAIT_S, TAIL_S
from batching.engine.lanes import estimate_tokens
from batching.engine.model import Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.splitter import Ending
from batching.engine.tests.scripted import (
    Bench,
    Script,
    Step,
    answer_of,
    ask,
    overloaded,
    reply_to,
    value_start,
    whole,
)
from batching.engine.tests.virtual_loop import run_virtual
from batching.engine.usage import TokenUsage


def run_bench(script: Script, *, count: int = 6, wait_s: float = 30.0) -> Bench:
    async def main() -> Bench:
        return await Bench(script, count=count, wait_s=wait_s).run()

    return run_virtual(main())


def stream_early(prompt: CombinedPrompt, usage: TokenUsage | None) -> list[Step]:
    """All answers; the end of the reply comes one second later."""
    return [Piece(reply_to(prompt), usage=usage), 1.0, Piece(finish_reason="STOP", usage=usage)]


def test_shares_of_a_call_sum_exactly_to_its_usage() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt))
    (report,) = bench.recorder.reports
    total = TokenUsage()
    for share in report.shares.values():
        total += share
    assert report.usage is not None
    assert total == report.usage
    for index, answer in bench.recorder.answers.items():
        assert not answer.estimated
        assert answer.usage == report.shares[index]


def test_usage_of_a_retried_answer_includes_the_first_call() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt, leave_out=[0] if n == 1 else []), count=2)
    first, second = bench.recorder.reports
    assert bench.recorder.answers[0].usage == first.shares[0] + second.shares[0]


def test_usage_of_an_answer_of_the_third_call_includes_all_three() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt, leave_out=[0] if n < 3 else []), count=2)
    spent = TokenUsage()
    for report in bench.recorder.reports:
        spent += report.shares[0]
    assert len(bench.recorder.reports) == 3
    assert bench.recorder.answers[0].usage == spent


def test_output_is_shared_by_length_and_unanswered_items_pay_nothing() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        if n > 1:
            return whole(prompt)
        reply = json.dumps(dict(zip(prompt.keys, ["a" * 30, "b" * 10], strict=False)))
        return [Piece(reply, finish_reason="STOP", usage=TokenUsage(prompt=9, output=40_000))]

    async def main() -> Bench:
        bench = Bench(script, count=3)
        bench.slots.take(bench.batch.rule.priority)
        await bench.runner.run(bench.batch)
        return bench

    shares = run_virtual(main()).recorder.reports[0].shares
    assert [shares[i].output for i in range(3)] == [30_000, 10_000, 0]


def test_answer_before_the_end_of_the_reply_has_an_estimated_usage() -> None:
    usage = TokenUsage(prompt=60, output=1, thoughts=20, cached=12)
    bench = run_bench(lambda n, prompt: stream_early(prompt, usage))
    answer = bench.recorder.answers[0]
    assert answer.estimated
    assert answer.usage == TokenUsage(10, estimate_tokens(answer_of(ask(0))), 3, 2)
    assert answer.finish_reason == "STOP"


def test_estimate_without_any_count_takes_the_input_from_the_prompt() -> None:
    bench = run_bench(lambda n, prompt: stream_early(prompt, None))
    answers = bench.recorder.answers.values()
    assert sum(a.usage.prompt for a in answers) == estimate_tokens(str(bench.model.calls[0]))
    assert all(a.estimated and a.usage.thoughts == 0 for a in answers)


def test_count_that_comes_after_the_last_answer_is_still_read() -> None:
    usage = TokenUsage(prompt=60, output=100)
    bench = run_bench(lambda n, p: [Piece(reply_to(p)), 4.0, Piece(usage=usage)])
    wait_s = ENDING_WAIT_S[Ending.OBJECT]
    assert [bench.elapsed(i) for i in range(6)] == [0] * 5 + [wait_s]
    assert bench.recorder.reports[0].usage == usage


def test_answer_at_the_end_of_the_reply_has_the_usage_and_the_finish_reason() -> None:
    bench = run_bench(lambda n, prompt: whole(prompt))
    assert all(not answer.estimated for answer in bench.recorder.answers.values())
    assert {answer.finish_reason for answer in bench.recorder.answers.values()} == {"STOP"}


def write_running_figures(prompt: CombinedPrompt) -> list[Piece]:
    """One answer per piece, each with a finish reason and the figures so far."""
    reply = reply_to(prompt)
    cuts = [value_start(reply, key) for key in prompt.keys[1:]] + [len(reply)]
    return [
        Piece(reply[start:end], finish_reason="STOP", usage=TokenUsage(100, 10 * n, n))
        for n, (start, end) in enumerate(zip([0, *cuts], cuts, strict=False), start=1)
    ]


def test_running_figures_with_a_finish_reason_are_estimates_until_the_reply_ends() -> None:
    bench = run_bench(lambda n, prompt: write_running_figures(prompt), count=3)
    (report,) = bench.recorder.reports
    answers = bench.recorder.answers
    assert [answers[i].estimated for i in range(3)] == [True, True, False]
    assert answers[0].usage.output == estimate_tokens(answer_of(ask(0)))
    assert answers[2].usage == report.shares[2]
    assert (report.usage, report.estimated) == (TokenUsage(100, 30, 3), False)


def test_figures_that_stop_before_the_last_text_are_estimates() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        *early, last = write_running_figures(prompt)
        return [*early, Piece(last.text, finish_reason="STOP")]

    bench = run_bench(script, count=2)
    (report,) = bench.recorder.reports
    assert report.estimated
    assert report.usage == TokenUsage(100, estimate_tokens(report.reply), 1)
    assert all(answer.estimated for answer in bench.recorder.answers.values())


def test_usage_that_never_arrives_is_estimated_for_the_call_and_its_answers() -> None:
    bench = run_bench(lambda n, p: [Piece(reply_to(p), finish_reason="STOP")], count=2)
    (report,) = bench.recorder.reports
    prompt_tokens = estimate_tokens(str(bench.model.calls[0]))
    assert report.estimated
    assert report.usage == TokenUsage(prompt_tokens, estimate_tokens(report.reply))
    assert report.shares[0] + report.shares[1] == report.usage
    assert all(answer.estimated for answer in bench.recorder.answers.values())


def test_figures_of_a_broken_reply_are_estimates_also_in_the_answer_of_the_retry() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        first = write_running_figures(prompt)[0]
        return [first, overloaded()] if n == 1 else whole(prompt)

    bench = run_bench(script, count=2)
    first, second = bench.recorder.reports
    assert (first.estimated, second.estimated) == (True, False)
    assert bench.recorder.answers[1].usage == first.shares[1] + second.shares[1]
    assert bench.recorder.answers[1].estimated


def test_call_that_failed_without_a_reply_has_no_figures() -> None:
    bench = run_bench(lambda n, p: [overloaded()] if n == 1 else whole(p), count=1)
    first, _ = bench.recorder.reports
    assert (first.usage, first.estimated) == (None, False)
    assert not bench.recorder.answers[0].estimated


def test_last_answer_does_not_wait_for_a_reply_that_does_not_end() -> None:
    bench = run_bench(lambda n, prompt: [*whole(prompt), 1000.0])
    assert all(bench.elapsed(i) == pytest.approx(END_WAIT_S) for i in range(6))
    assert all(answer.estimated for answer in bench.recorder.answers.values())
    assert bench.recorder.reports[0].duration_s == pytest.approx(TAIL_S)


def test_cancelled_call_releases_the_answers_that_waited_for_its_end() -> None:
    async def main() -> Bench:
        bench = Bench(lambda n, prompt: [*whole(prompt), 1000.0], count=2)
        bench.slots.take(bench.batch.rule.priority)
        running = asyncio.create_task(bench.runner.run(bench.batch))
        await asyncio.sleep(END_WAIT_S / 2)
        assert not bench.recorder.answers
        running.cancel()
        await asyncio.wait([running])
        return bench

    assert run_virtual(main()).recorder.answers.keys() == {0, 1}


def test_report_holds_the_reply_and_its_times() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        reply = reply_to(prompt)
        pieces = [Piece(), Piece(reply[:9]), Piece(reply[9:], finish_reason="STOP")]
        return [step for piece in pieces for step in (1.0, piece)]

    bench = run_bench(script)
    (report,) = bench.recorder.reports
    assert report.call is bench.batch.first_call
    assert report.reply == reply_to(bench.model.calls[0])
    assert report.first_token_s == pytest.approx(2.0)
    assert report.duration_s == pytest.approx(3.0)
    assert report.error is None
    assert not report.perhaps_billed


def test_timeout_of_a_call_is_the_time_that_clients_still_wait() -> None:
    bench = run_bench(lambda n, prompt: [5.0, Piece("{}")] if n == 1 else whole(prompt), count=1)
    assert bench.model.timeouts == pytest.approx([30.0, 25.0])


def test_call_after_the_deadline_of_its_items_times_out_at_once() -> None:
    bench = run_bench(lambda n, prompt: [1.0], count=1, wait_s=0.0)
    assert bench.model.timeouts == [0.001]
    assert bench.codes == {0: "timeout"}


def test_report_distinguishes_a_stall_from_a_deadline() -> None:
    bench = run_bench(lambda n, prompt: [1000.0], count=1, wait_s=30.5)
    stall, deadline = (report.error for report in bench.recorder.reports)
    assert stall is not None
    assert (stall.code, str(stall)) == (
        "upstream_unavailable",
        "The model service sent nothing for 20 seconds.",
    )
    assert deadline is not None
    assert deadline.code == "timeout"
    assert all(report.perhaps_billed for report in bench.recorder.reports)


def test_report_names_a_cancellation_that_the_model_client_raised() -> None:
    def script(n: int, prompt: CombinedPrompt) -> Sequence[Step]:
        return [asyncio.CancelledError()] if n == 1 else whole(prompt)

    error = run_bench(script, count=1).recorder.reports[0].error
    assert error is not None
    assert error.code == "upstream_unavailable"
    assert str(error) == "The call to the model service broke off (it was cancelled)."
