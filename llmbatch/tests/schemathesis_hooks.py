"""Asks for streams too, and leaves out where server and schema differ on purpose."""

from typing import Any

import schemathesis


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Every other prompt asks for a stream."""
    asks = case.path == "/v1/query" and isinstance(case.body, dict)
    if asks and len(str(case.body.get("username"))) % 2:
        case.headers["Accept"] = "text/event-stream"
    return case


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    query, body = case.query or {}, case.body
    # A parameter without a value counts as absent.
    if "" in query.values():
        return False
    # Its generator at times misses the pattern that forbids NUL; the tests of bodies send it too.
    if isinstance(body, dict) and any("\0" in v for v in body.values() if isinstance(v, str)):
        return False
    # Who will not wait gets a 504, which counts as a server's failure there.
    if isinstance(body, dict) and _is_short(body.get("timeout_s")):
        return False
    # Whether a masked key is accepted depends on the stored one.
    if isinstance(body, dict) and str(body.get("api_key")).strip().startswith("***"):
        return False
    if isinstance(body, dict) and _asks_nothing(body.get("messages")):
        return False
    # A rule between two fields is none that a schema could word shortly.
    pairs = ({"before", "after"}, {"from", "to"})
    return not any(pair <= query.keys() for pair in pairs) and not _has_two_latencies(body)


def _has_two_latencies(body: Any) -> bool:
    lanes = body.values() if isinstance(body, dict) else ()
    return any({"latency", "latency_ms"} <= lane.keys() for lane in lanes if isinstance(lane, dict))


def _is_short(timeout_s: Any) -> bool:
    return isinstance(timeout_s, int | float) and 0 < timeout_s < 10


def _asks_nothing(messages: Any) -> bool:
    """A conversation that ends with an answer, or a lone blank question."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    said = messages[-1].get("content")
    if isinstance(said, list):
        said = "".join(str(part.get("text")) for part in said if isinstance(part, dict))
    blank = not str(said).strip() or "\0" in str(said)
    return messages[-1].get("role") == "assistant" or (len(messages) == 1 and blank)
