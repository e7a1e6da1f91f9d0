"""Leaves out cases in which the server and the schema differ on purpose."""

from typing import Any

import schemathesis


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
    # A rule between two fields is none that a schema could word shortly.
    pairs = ({"before", "after"}, {"from", "to"})
    return not any(pair <= query.keys() for pair in pairs) and not _has_two_latencies(body)


def _has_two_latencies(body: Any) -> bool:
    lanes = body.values() if isinstance(body, dict) else ()
    return any({"latency", "latency_ms"} <= lane.keys() for lane in lanes if isinstance(lane, dict))


def _is_short(timeout_s: Any) -> bool:
    return isinstance(timeout_s, int | float) and 0 < timeout_s < 10
