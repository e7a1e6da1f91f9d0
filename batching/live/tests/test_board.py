"""The board when events arrive twice, late, or not at all."""

from batching.live.board import Board
from batching.telemetry.live_events import Event


def accepted(*ids: int) -> Event:
    items = [
        {"id": i, "lane": "HIGH", "username": "ann", "age_ms": 100, "due_in_ms": 100} for i in ids
    ]
    return {"kind": "accepted", "items": items}


def dispatched(batch_id: int, *ids: int) -> Event:
    items = [{"id": i, "username": "ann"} for i in ids]
    fields = {"batch_id": batch_id, "lane": "HIGH", "trigger": "full", "items": items}
    return {"kind": "dispatched", **fields}


def ended(item_id: int, code: str = "") -> Event:
    return {"kind": "item_ended", "id": item_id, "code": code, "latency_ms": 5}


def test_batch_is_followed_from_its_accepted_requests_to_its_outcome() -> None:
    board = Board()
    for event in (accepted(1, 2, 3), dispatched(7, 1, 2)):
        board.apply(event, 10.0)
    board.apply({"kind": "call_started", "batch_id": 7, "call_id": 70, "size": 2}, 10.0)
    assert list(board.waiting) == [3]
    assert board.apply(ended(1), 10.2)["batch_id"] == 7
    board.apply(ended(2, "blocked"), 10.3)
    assert list(board.running[7].calls) == [70]
    assert board.apply({"kind": "batch_ended", "batch_id": 7}, 10.5) == {
        "kind": "batch_ended",
        "batch_id": 7,
        "lane": "HIGH",
        "size": 2,
        "answered": 1,
        "failed": 1,
        "calls": 1,
        "duration_ms": 500,
    }
    assert board.running == {}
    assert board.count_waiting()["HIGH"] == 1


def test_late_accepted_event_does_not_return_a_request_to_the_queue() -> None:
    board = Board()
    board.apply(dispatched(7, 1, 2), 1.0)
    board.apply(accepted(1, 2), 1.0)
    board.apply({"kind": "left", "ids": [3], "reason": "cancelled"}, 1.0)
    board.apply(accepted(3), 1.0)
    assert board.count_waiting()["HIGH"] == 0


def test_event_that_arrives_twice_changes_nothing_more() -> None:
    board = Board()
    board.unlisted["HIGH"] = 5
    for _ in range(2):
        board.apply(accepted(1), 1.0)
        board.apply(dispatched(7, 1, 2), 1.0)  # request 2 was counted, but not listed
    assert board.count_waiting()["HIGH"] == 4
    for _ in range(2):
        board.apply({"kind": "batch_ended", "batch_id": 7}, 2.0)
        board.apply(dispatched(7, 1, 2), 2.0)
    assert board.running == {}
    assert len(board.outcomes) == 1


def test_events_of_an_unknown_batch_or_kind_are_passed_on_unchanged() -> None:
    board = Board()
    for event in (
        ended(1),
        {"kind": "batch_ended", "batch_id": 9},
        {"kind": "call_started", "batch_id": 9, "call_id": 1, "size": 1},
        {"kind": "call_ended", "batch_id": 9, "call_id": 1},
        {"kind": "unknown"},
    ):
        assert board.apply(event, 1.0) == event
