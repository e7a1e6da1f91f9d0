"""Judges what a running gateway did with requests: are the batches as its rules say?"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EARLY_S = 0.02
"""by which the server's clocks may differ"""
LATE_S = 1.0
"""what a batch may wait beyond its window on a loaded machine"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One priority's rules, as GET /v1/settings gives them."""

    window_s: float
    max_batch: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request. Without an answer `code` says why; then the rest is empty."""

    priority: str
    request_id: str
    status: int
    code: str = ""
    answered_id: str = ""
    username: str = ""
    batch_id: int = 0
    batch_size: int = 0
    queue_ms: int = 0
    latency_ms: int = 0


@dataclass(frozen=True, slots=True)
class SentBatch:
    """The replies that name one batch."""

    id: int
    size: int
    replies: tuple[Reply, ...]

    @property
    def priorities(self) -> set[str]:
        return {reply.priority for reply in self.replies}

    @property
    def is_shared(self) -> bool:
        """Other traffic is in it."""
        return self.size > len(self.replies)

    @property
    def waited_s(self) -> float:
        """How long its oldest request waited."""
        return max(reply.queue_ms for reply in self.replies) / 1000


def group_batches(replies: Sequence[Reply]) -> list[SentBatch]:
    members: dict[int, list[Reply]] = defaultdict(list)
    for reply in replies:
        if reply.status == 200:
            members[reply.batch_id].append(reply)
    return [
        SentBatch(batch_id, found[0].batch_size, tuple(found))
        for batch_id, found in sorted(members.items())
    ]


def judge_replies(
    replies: Sequence[Reply],
    rules: Mapping[str, Rule],
    *,
    username: str,
    at_once: bool = True,
) -> list[str]:
    """What is not as the rules say, a sentence each; nothing if all is.

    `at_once`: every priority's requests were sent in one go, so their number of batches is known.
    """
    findings = [finding for reply in replies for finding in _judge_reply(reply, username)]
    batches = group_batches(replies)
    for batch in batches:
        findings += _judge_batch(batch, rules)
    if at_once:
        findings += _judge_numbers(replies, batches, rules)
    return findings


def describe_strangers(replies: Sequence[Reply]) -> str:
    """What of the batches was not ours; "" if nothing."""
    shared = [str(batch.id) for batch in group_batches(replies) if batch.is_shared]
    if not shared:
        return ""
    return f"Other traffic shares batch {', '.join(shared)}: their fill and number are not judged."


def _judge_reply(reply: Reply, username: str) -> list[str]:
    if reply.status != 200:
        return [f"{reply.request_id} was not answered: {reply.status} {reply.code}."]
    if (reply.answered_id, reply.username) != (reply.request_id, username):
        return [
            f"{reply.request_id} got the answer of {reply.answered_id or 'nobody'}"
            f" (username {reply.username or 'none'})."
        ]
    return []


def _judge_batch(batch: SentBatch, rules: Mapping[str, Rule]) -> list[str]:
    if len(batch.priorities) > 1:
        return [f"Batch {batch.id} mixes {' and '.join(sorted(batch.priorities))}."]
    (priority,) = batch.priorities
    rule, findings = rules[priority], []
    if batch.size > rule.max_batch:
        findings.append(f"Batch {batch.id} holds {batch.size}, more than {rule.max_batch}.")
    if batch.size < len(batch.replies):
        findings.append(f"Batch {batch.id} says {batch.size} and was named by more replies.")
    if batch.waited_s > rule.window_s + LATE_S:
        findings.append(
            f"Batch {batch.id} left after {batch.waited_s:.2f} s, late by"
            f" {batch.waited_s - rule.window_s:.2f} s."
        )
    early = batch.waited_s < rule.window_s - EARLY_S
    if early and batch.size < rule.max_batch and not batch.is_shared:
        findings.append(
            f"Batch {batch.id} left with {batch.size} of {rule.max_batch} after"
            f" {batch.waited_s:.2f} s, before its window of {rule.window_s:g} s."
        )
    return findings


def _judge_numbers(
    replies: Sequence[Reply], batches: Sequence[SentBatch], rules: Mapping[str, Rule]
) -> list[str]:
    findings = []
    for priority, sent in Counter(reply.priority for reply in replies).items():
        own = [batch for batch in batches if batch.priorities == {priority}]
        expected = math.ceil(sent / rules[priority].max_batch)
        if len(own) != expected and not any(batch.is_shared for batch in own):
            findings.append(f"{sent} {priority} made {len(own)} batches instead of {expected}.")
    return findings
