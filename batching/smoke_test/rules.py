"""Checks from the answers of a running gateway whether its batches obeyed its lane rules.

Times are seconds on the server's clocks, so that a slow client causes no finding.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batching.engine.lanes import Scope, TokenBudget

# The clocks of the server's processes may differ by this.
EARLY_S = 0.02
# A batch may leave this long after it is due.
LATE_S = 0.5
# An idle gateway needs at most this long to store and queue a request.
REACTION_S = 0.05


@dataclass(frozen=True, slots=True)
class Rule:
    """One lane's rules from GET /v1/settings."""

    window_s: float
    max_batch: int
    tokens: int = 1000
    scope: str = Scope.EVERYONE

    @property
    def capacity(self) -> int:
        """Requests that fit one call: max_batch, or fewer if the model's output limit is lower."""
        return min(self.max_batch, max(1, TokenBudget().answers // self.tokens))


@dataclass(frozen=True, slots=True)
class Request:
    priority: str
    id: str
    username: str
    # Unique to this request; the prompt asks the model to repeat it.
    word: str


@dataclass(frozen=True, slots=True)
class Answer:
    request_id: str
    username: str
    text: str
    batch_id: int
    batch_size: int
    accepted: float
    queue_ms: int
    latency_ms: int

    @property
    def left(self) -> float:
        return self.accepted + self.queue_ms / 1000

    @property
    def ended(self) -> float:
        return self.accepted + self.latency_ms / 1000


@dataclass(frozen=True, slots=True)
class Reply:
    """A request's answer, or the `code` and `detail` of its error. Status 0 means no response."""

    request: Request
    status: int
    answer: Answer | None = None
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SentBatch:
    """The answers from one batch, each with its request."""

    id: int
    answers: tuple[tuple[Request, Answer], ...]

    @property
    def priorities(self) -> list[str]:
        return sorted({request.priority for request, _ in self.answers})

    @property
    def sizes(self) -> set[int]:
        return {answer.batch_size for _, answer in self.answers}

    @property
    def size(self) -> int:
        return max(self.sizes)

    @property
    def is_shared(self) -> bool:
        """Whether it also holds requests of other clients."""
        return self.size > len(self.answers)

    @property
    def left(self) -> float:
        return max(answer.left for _, answer in self.answers)

    @property
    def ended(self) -> float:
        return max(answer.ended for _, answer in self.answers)

    @property
    def waited_s(self) -> float:
        """The wait of its oldest request."""
        return max(answer.queue_ms for _, answer in self.answers) / 1000

    def find_due(self, rule: Rule) -> float:
        """When it should leave: when it is full, or when its oldest request's window ends."""
        accepted = [answer.accepted for _, answer in self.answers]
        due = min(accepted) + rule.window_s
        return min(due, max(accepted)) if self.size >= rule.max_batch else due


def group_batches(replies: Sequence[Reply]) -> list[SentBatch]:
    members: dict[int, list[tuple[Request, Answer]]] = defaultdict(list)
    for reply in replies:
        if reply.answer is not None:
            members[reply.answer.batch_id].append((reply.request, reply.answer))
    return [SentBatch(batch_id, tuple(found)) for batch_id, found in sorted(members.items())]


def check_batches(replies: Sequence[Reply], rules: Mapping[str, Rule]) -> list[str]:
    """Returns a sentence for each violation of the rules."""
    findings = [finding for reply in replies for finding in _check_reply(reply, replies)]
    batches, pure = group_batches(replies), []
    for batch in batches:
        if wrong := _check_members(batch, rules):
            findings += wrong
        else:
            pure.append(batch)
    lags = {batch.id: _measure_lag(batch, rules, batches) for batch in pure}
    slack_s = REACTION_S + max(lags.values(), default=0.0)
    for batch in pure:
        rule = rules[batch.priorities[0]]
        late = _check_lag(batch, rule, lags[batch.id])
        findings += late or _check_partial(batch, rule, pure, slack_s=slack_s)
    return findings


def describe_other_traffic(replies: Sequence[Reply]) -> str:
    """Names the batches that hold other clients' requests; "" if there are none."""
    shared = [str(batch.id) for batch in group_batches(replies) if batch.is_shared]
    if not shared:
        return ""
    return (
        f"Other traffic shares a batch ({', '.join(shared)}): its size and the time it left cannot"
        " be checked."
    )


def _check_reply(reply: Reply, replies: Sequence[Reply]) -> list[str]:
    request, answer = reply.request, reply.answer
    if answer is None:
        status = reply.status or "no reply"
        why = f": {reply.detail}" if reply.detail else ""
        return [f"{request.id} was not answered: {status} {reply.code}{why}"]
    if (answer.request_id, answer.username) != (request.id, request.username):
        return [
            f"{request.id} of {request.username} got the answer of {answer.request_id} of"
            f" {answer.username}."
        ]
    others = [r.request.id for r in replies if r.request.word in answer.text]
    if not others or request.id in others:
        return []
    return [f"{request.id} got an answer with the word of {others[0]}."]


def _check_members(batch: SentBatch, rules: Mapping[str, Rule]) -> list[str]:
    if len(batch.priorities) > 1:
        return [f"Batch {batch.id} mixes {' and '.join(batch.priorities)}."]
    rule = rules[batch.priorities[0]]
    if len(batch.sizes) > 1 or batch.size < len(batch.answers):
        sizes = " and ".join(map(str, sorted(batch.sizes)))
        return [f"Batch {batch.id} reports size {sizes}; {len(batch.answers)} answers name it."]
    if batch.size > rule.max_batch:
        return [f"Batch {batch.id} holds {batch.size}, more than {rule.max_batch}."]
    if batch.is_shared and rule.scope == Scope.USERNAME:
        return [
            f"Batch {batch.id} holds another client's request, although its scope is one username."
        ]
    return []


def _measure_lag(batch: SentBatch, rules: Mapping[str, Rule], batches: list[SentBatch]) -> float:
    """Seconds from when the batch could leave until it left.

    It could leave when it was due, or later when the call of another batch freed a slot.
    """
    due = batch.find_due(rules[batch.priorities[0]])
    freed = [other.ended for other in batches if due < other.ended <= batch.left]
    return max(0.0, batch.left - max([due, *freed]))


def _check_lag(batch: SentBatch, rule: Rule, lag_s: float) -> list[str]:
    if lag_s <= LATE_S:
        return []
    is_full = batch.size >= rule.max_batch
    due = "it was full" if is_full else f"the end of its window of {rule.window_s:g} s"
    return [f"Batch {batch.id} left late, {lag_s:.2f} s after {due}."]


def _check_partial(
    batch: SentBatch, rule: Rule, batches: Sequence[SentBatch], *, slack_s: float
) -> list[str]:
    """Checks that a batch that was not full left after its window, and with all queued requests.

    A request that had waited for `slack_s` when the batch left should have been in it.
    """
    if batch.size >= rule.capacity or batch.is_shared:
        return []
    left = f"Batch {batch.id} left with {batch.size} of {rule.max_batch}"
    if batch.waited_s < rule.window_s - EARLY_S:
        window = f"before its window of {rule.window_s:g} s"
        return [f"{left} after {batch.waited_s:.2f} s, {window}."]
    return [
        f"{left} although {request.id} had waited for {batch.left - answer.accepted:.2f} s."
        for other in batches
        if other.priorities == batch.priorities
        for request, answer in other.answers
        if answer.left > batch.left and answer.accepted < batch.left - slack_s
    ][:1]
