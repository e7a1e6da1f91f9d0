"""All faults by name, and the scripts that choose the fault of a call.

`MarkedFaults` reads the names of the faults from the prompts: `[[fault:NAME]]`, or
`[[fault:NAME:2]]` for the first two calls with this prompt.
"""

import base64
import re
from collections import Counter
from collections.abc import Callable

from batching.llm.simulated.calls import SimulatedCall
from batching.llm.simulated.faults import Fault, Script
from batching.llm.simulated.wire import Ending, make_error
from batching.tests.faults import answers, replies

NESTING = 3_000

_JSON = "application/json"
_HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
_MARKER = re.compile(r"\[\[fault:([a-z0-9-]{1,60})(?::(\d{1,6}))?\]\]")
_KEY_REASON = replies.error_info("API_KEY_INVALID")
_UNUSABLE_KEY = "API key not valid. Please pass a valid API key."
_OVERLOADED = "The model is overloaded. Please try again later."


def _fixed(fault: Fault) -> Callable[[int], Fault]:
    return lambda item: fault


def _without(field: str) -> Fault:
    return replies.edit_events(
        f"without-{field}", lambda event: {k: v for k, v in event.items() if k != field}
    )


def _split_parts(event: dict) -> dict:
    """Splits the text part of the event into several parts, one of which is empty."""
    candidate = (event.get("candidates") or [{}])[0]
    if "content" not in candidate:
        return event
    text = candidate["content"]["parts"][0]["text"]
    third = len(text) // 3
    pieces = (text[:third], "", text[third : 2 * third], text[2 * third :])
    content = {"role": "model", "parts": [{"text": piece} for piece in pieces]}
    return event | {"candidates": [candidate | {"content": content}]}


def _pretend_to_end(event: dict) -> dict:
    candidate = (event.get("candidates") or [{}])[0]
    return event | {"candidates": [candidate | {"finishReason": "STOP"}]}


def _thought_event() -> dict:
    part = {"text": '{"0": "a thought is no answer"}', "thought": True}
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}]}


def _only_finish(reason: str) -> Fault:
    """Sends a candidate without content."""
    return replies.only_event({"candidates": [{"index": 0, "finishReason": reason}]})


def _wrong(source: str) -> Callable[[int], Fault]:
    return lambda item: answers.value(item, source)


def _injected(source: str) -> Callable[[int], Fault]:
    return lambda item: answers.inject(item, source)


def _cut(*others: Fault, after: bool = False) -> Callable[[int], Fault]:
    def make(item: int) -> Fault:
        fault = answers.cut(item, after=after)
        for other in others:
            fault |= other
        return fault

    return make


_NO_FINISH = replies.finish(None)
_WHITE_SPACE = replies.trickle(" \n", interval_s=0.2, count=300)
_WITH_DETAILS = {
    "status-400-key": replies.status(400, message=_UNUSABLE_KEY, details=(_KEY_REASON,)),
    "status-400-region": replies.status(400, "FAILED_PRECONDITION"),
    "status-400-tokens": replies.status(
        400, message="The input token count (1048577) exceeds the maximum number of tokens allowed."
    ),
    "status-429": replies.status(429, details=(replies.retry_info("0.05s"),)),
    "status-429-bare": replies.status(429),
    "status-429-long": replies.status(429, details=(replies.retry_info("3600s"),)),
    "status-429-garbled": replies.status(429, details=(replies.retry_info("soon"),)),
    "status-429-minute": replies.status(
        429,
        details=(replies.quota_failure("PerMinute"), replies.retry_info("0.05s")),
    ),
    "status-429-day": replies.status(429, details=(replies.quota_failure("PerDay"),)),
    "status-429-limit-0": replies.status(
        429,
        message="* Quota exceeded for metric: requests, limit: 0, model: m\nPlease retry in 0.05s.",
        details=(replies.quota_failure("PerMinute"), replies.retry_info("0.05s")),
    ),
    "status-429-cap": replies.status(
        429, message="Your project has exceeded its monthly spending cap."
    ),
    "status-429-credits": replies.status(429, message="Your prepayment credits are depleted."),
    "status-429-message": replies.status(429, message="Quota exceeded. Please retry in 59.84ms."),
    "status-503-header": replies.status(503, headers={"retry-after": "1"}),
    "status-302": replies.status(302, headers={"location": "https://model.invalid/"}),
}
_BODIES = {
    "status-204": replies.body(b"", code=204),
    "status-502-html": replies.body(_HTML, code=502, content_type="text/html"),
    "error-odd": replies.body(
        b'{"error": {"code": 500, "details": [null, 7, {"violations": 3}], "status": 9}}',
        code=500,
        content_type=_JSON,
    ),
    "error-string": replies.body(b'{"error": "oops"}', code=500, content_type=_JSON),
    "error-200": replies.body(b'{"error": {"code": 500}}', content_type=_JSON),
    "empty-body": replies.body(b""),
    "json-list": replies.body(b'[{"a": 1}]', content_type=_JSON),
    "html": replies.body(_HTML, content_type="text/html"),
}
_MEMBERS: dict[str, Callable[[int], Fault]] = {
    "missing": answers.missing,
    "missing-first": _fixed(answers.missing(0)),
    "missing-last": _fixed(answers.missing(-1)),
    "missing-all": _fixed(answers.missing_all()),
    "empty": _wrong('""'),
    "blank": _wrong(r'" \n\t \u00a0"'),
    "number": _wrong("42"),
    "null": _wrong("null"),
    "boolean": _wrong("true"),
    "nested": _wrong('{"text": "[simulated] nested", "more": ["}", "\\""]}'),
    "list": _wrong('["[simulated] listed"]'),
    "deep-nesting": _wrong("[" * NESTING + "]" * NESTING),
    "huge-integer": _wrong("9" * 5000),
    "raw-newline": _injected("a raw\nnewline "),
    "lone-surrogate": _injected(r"a half \ud83d "),
    "nul": _wrong(r'"a\u0000b"'),
    "bad-escape": _injected(r"a \x41 "),
    "unescaped-quotes": _injected('a "quoted" word '),
    "single-quotes": _wrong("'[simulated] quoted otherwise'"),
    "other-token": answers.rename,
    "forged": answers.forge,
    "forged-keys": _fixed(answers.rename_all()),
    "bare-indexes": _fixed(answers.rename_all(bare=True)),
    "duplicate": lambda item: answers.duplicate(item, first=True) | replies.one_event(),
    "duplicate-early": lambda item: answers.duplicate(item, first=True),
    "duplicate-late": _fixed(answers.duplicate(0)),
    "extra": _fixed(answers.add_member("extra") | answers.add_member("99_0", at=0)),
    "extra-between": _fixed(answers.add_member("extra", at=1)),
    "inch-mark": _injected('5", which is small, '),
    "inch-mark-member": _injected('5", "wide": 7", '),
    "inch-mark-object": _injected('{5"} is small '),
    "nul-in-escape": _injected(r"caf\u0000e9 "),
    "control-escape": _injected(r"don\u0019t "),
    "form-feed": _injected(r"\frac{1}{2} "),
    "object-in-value": answers.nest,
    "object-in-object-in-value": lambda item: answers.nest(item) | answers.nest(item),
    "key-in-value": answers.name_key,
    "shuffled": _fixed(answers.shuffle()),
}
_TEXTS: dict[str, Callable[[int], Fault]] = {
    "prose": _fixed(answers.prose("[simulated] I would rather answer in prose.")),
    "nested-arrays": _fixed(answers.prose("[" * 100_000)),
    "no-text": _fixed(answers.prose("")),
    "fenced": _fixed(answers.wrap("```json\n", "\n```")),
    "prose-around": _fixed(answers.wrap('Sure! Here is the JSON {"you": "want"}:\n', "\nBye.")),
    "as-list": _fixed(answers.as_list()),
    "object-twice": _fixed(answers.twice("")),
    "object-twice-at-once": _fixed(answers.twice("\n") | replies.one_event()),
    "object-twice-with-prose": _fixed(answers.twice("\nAgain:\n")),
    "max-tokens": _cut(replies.finish("MAX_TOKENS")),
    "max-tokens-after": _cut(replies.finish("MAX_TOKENS"), after=True),
    "safety": _cut(replies.finish("SAFETY")),
    "recitation": _cut(replies.finish("RECITATION")),
    "other": _cut(replies.finish("OTHER")),
    "unknown-finish": _cut(replies.finish("SOMETHING_NEW")),
    "continuation": _cut(
        replies.finish("CONTINUATION", continuationToken=base64.b64encode(b"go on").decode())
    ),
    "no-finish": _cut(_NO_FINISH),
    "no-finish-after": _cut(_NO_FINISH, after=True),
    "no-finish-whole": _fixed(_NO_FINISH),
    "reset": _cut(_NO_FINISH, replies.end(Ending.RESET)),
    "reset-after": _cut(_NO_FINISH, replies.end(Ending.RESET), after=True),
    "early-close": _cut(_NO_FINISH, replies.end(Ending.EARLY_CLOSE)),
    "hang": _cut(_NO_FINISH, replies.end(Ending.HANG)),
    "hang-after": _cut(_NO_FINISH, replies.end(Ending.HANG), after=True),
    "hang-in-the-middle": _fixed(
        answers.cut(0, third=True) | _NO_FINISH | replies.end(Ending.HANG)
    ),
    "loop-escapes": _cut(_NO_FINISH, answers.wrap("", r"\n\t" * 5_000)),
    "loop-words": _cut(_NO_FINISH, answers.wrap("", "ha " * 5_000)),
    "loop-after-value": _cut(_NO_FINISH, answers.wrap("", "\n" * 5_000), after=True),
    "loop-prose": _fixed(answers.prose("Let me think. " * 2_000)),
    "white-space-after": _cut(_NO_FINISH, _WHITE_SPACE, after=True),
    "white-space-in-value": _cut(_NO_FINISH, replies.trickle("\\n\\t", interval_s=0.2, count=300)),
    "cancelled": _cut(_NO_FINISH, replies.end(Ending.CANCELLED)),
}
_EVENTS = {
    "blocked": replies.block("SAFETY"),
    "blocked-prohibited": replies.block("PROHIBITED_CONTENT"),
    "blocked-unknown": replies.block("SOMETHING_NEW"),
    "no-candidates": replies.only_event({}),
    "empty-event": replies.only_event({}, usage=False),
    "safety-at-once": _only_finish("SAFETY"),
    "max-tokens-at-once": _only_finish("MAX_TOKENS"),
    "one-event": replies.one_event(),
    "no-usage": _without("usageMetadata"),
    "running-usage": replies.edit_events("running-usage", _pretend_to_end),
    "thoughts": replies.add_event(_thought_event(), at=0) | replies.add_event(_thought_event()),
    "many-parts": replies.edit_events("many-parts", _split_parts),
    "error-event": replies.stop_at(make_error(503, "UNAVAILABLE", message=_OVERLOADED)),
    "broken-event": replies.stop_at('{"candidates": [{"content"'),
    "deep-event": replies.stop_at('{"candidates": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "list-event": replies.stop_at("[1, 2]"),
}
# Legal forms of an event stream that the SDK alone could not read.
_STREAMS = {
    "stream-comments": replies.reframe("comments", ": ping", "data: {}", "", ":"),
    "stream-fields": replies.reframe("fields", "id: 7", "event: message", "retry: 1", "data: {}"),
    "stream-no-space": replies.reframe("no-space", "data:{}", end="\r"),
    "stream-idle-events": replies.reframe("idle-events", "event: ping", "data: x", "", "data:{}"),
    "stream-mark": replies.reframe("mark", "data: {}", head=b"\xef\xbb\xbf"),
    "stream-done": replies.reframe("done", "data: {}", tail=b"data: [DONE]\n\n"),
    "stream-many-lines": replies.spread_lines(),
    "stream-compressed": replies.reframe("", "data:{}", end="\r\n") | replies.compress(),
}
_CONNECTIONS = {
    "reset-at-once": replies.end(Ending.RESET, silent=True),
    "reset-headers": replies.end(Ending.RESET, after_bytes=0),
    "reset-bytes": replies.end(Ending.RESET, after_bytes=100),
    "close-at-once": replies.end(Ending.EARLY_CLOSE, silent=True),
    "refused": replies.end(Ending.REFUSED, silent=True),
    "hang-before-headers": replies.end(Ending.HANG, silent=True),
    "hang-headers": replies.end(Ending.HANG, after_bytes=0),
    "hang-at-end": replies.end(Ending.HANG),
    "cancelled-at-once": replies.end(Ending.CANCELLED, silent=True),
    "drip": replies.drip(0.0005),
    "drip-slow": replies.drip(0.05),
    "slow": replies.delay(2.0),
    "slow-10": replies.delay(10.0),
}
_STATUSES = (400, 401, 403, 404, 408, 413, 418, 429, 499, 500, 502, 503, 504)
# Each function makes the fault for one item; many faults change the whole call.
FAULTS: dict[str, Callable[[int], Fault]] = (
    {f"status-{code}": _fixed(replies.status(code)) for code in _STATUSES}
    | {
        name: _fixed(fault)
        for name, fault in (_WITH_DETAILS | _BODIES | _EVENTS | _STREAMS | _CONNECTIONS).items()
    }
    | _MEMBERS
    | _TEXTS
)


def find_fault(name: str, item: int = 0) -> Fault:
    """Returns a 400 with an explanation for an unknown name."""
    if name in FAULTS:
        return FAULTS[name](item)
    return replies.status(400, message=f"There is no fault named {name}.")


class MarkedFaults:
    """A script that applies each marker to the item whose prompt holds it."""

    def __init__(self) -> None:
        self._used: Counter[tuple[str, str]] = Counter()

    def __call__(self, call: SimulatedCall) -> Fault | None:
        chosen: Fault | None = None
        for item, prompt in enumerate(call.prompts.values()):
            for name, limit in _MARKER.findall(prompt):
                if limit and not self._count_use(prompt, name, int(limit)):
                    continue
                fault = find_fault(name, item)
                chosen = fault if chosen is None else chosen | fault
        return chosen

    def _count_use(self, prompt: str, name: str, limit: int) -> bool:
        self._used[prompt, name] += 1
        return self._used[prompt, name] <= limit


def poison(text: str, fault: Fault | None = None) -> Script:
    """Applies `fault`, by default a block, to every call with a prompt that holds `text`."""
    chosen = fault or replies.block()
    return lambda call: chosen if any(text in prompt for prompt in call.prompts.values()) else None
