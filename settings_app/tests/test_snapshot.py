"""The snapshot is one value in memory that is read without queries and replaced as a whole."""

import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db.models import F

from settings_app.crypto import encrypt
from settings_app.models import GatewaySettings, Lane
from settings_app.snapshot import current_snapshot, refresh_if_stale, refresh_snapshot

pytestmark = pytest.mark.django_db


def change_elsewhere(**values: Any) -> None:
    """Changes the database as another process would."""
    GatewaySettings.objects.update(version=F("version") + 1, **values)


def test_once_loaded_it_costs_no_query(django_assert_num_queries: Callable[..., Any]) -> None:
    snapshot = current_snapshot()
    with django_assert_num_queries(0):
        assert current_snapshot() is snapshot


@pytest.mark.django_db(transaction=True)
async def test_once_loaded_it_can_be_read_on_the_event_loop() -> None:
    loaded = await sync_to_async(refresh_snapshot)()
    assert current_snapshot() is loaded


def test_unchanged_version_costs_one_query(django_assert_num_queries: Callable[..., Any]) -> None:
    snapshot = current_snapshot()
    with django_assert_num_queries(1):
        assert refresh_if_stale() is snapshot


def test_change_of_another_process_is_read_at_the_next_check() -> None:
    before = current_snapshot()
    change_elsewhere(model="gemini-elsewhere")
    assert current_snapshot() is before
    assert refresh_if_stale().model == "gemini-elsewhere"
    assert current_snapshot().model == "gemini-elsewhere"


def test_it_holds_the_three_lanes_by_priority() -> None:
    lanes = current_snapshot().lanes
    assert {priority: lane.priority for priority, lane in lanes.items()} == {2: 2, 1: 1, 0: 0}
    assert lanes[2].window_s == Lane.objects.get(priority=2).window_s


def test_it_cannot_be_changed() -> None:
    snapshot = current_snapshot()
    with pytest.raises(FrozenInstanceError):
        snapshot.model = "x"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        snapshot.lanes[2].tokens = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        snapshot.lanes[2] = snapshot.lanes[1]  # type: ignore[index]


def test_each_snapshot_equals_only_itself() -> None:
    first, second = refresh_snapshot(), refresh_snapshot()
    assert len({first, second}) == 2


def test_stored_key_comes_before_that_of_the_environment(settings: Any) -> None:
    settings.GEMINI_API_KEY = "environment-key"
    assert refresh_snapshot().key_source == "environment"
    assert refresh_snapshot().api_key == "environment-key"
    GatewaySettings.objects.update(api_key_encrypted=encrypt("stored-key"))
    assert refresh_snapshot().key_source == "stored"
    assert refresh_snapshot().api_key == "stored-key"


def test_without_any_key_it_is_none(settings: Any) -> None:
    settings.GEMINI_API_KEY = ""
    snapshot = refresh_snapshot()
    assert (snapshot.api_key, snapshot.key_source, snapshot.key_problem) == (None, None, "")


@pytest.mark.parametrize("damaged", ["gAAAAAB-not-a-token", "x", "schlüssel"])
def test_damaged_key_is_reported_and_not_used(settings: Any, damaged: str) -> None:
    settings.GEMINI_API_KEY = "environment-key"
    GatewaySettings.objects.update(api_key_encrypted=damaged)
    snapshot = refresh_snapshot()
    assert (snapshot.api_key, snapshot.key_source) == (None, None)
    assert "cannot be decrypted" in snapshot.key_problem


def test_empty_model_means_that_of_the_environment(settings: Any) -> None:
    settings.GEMINI_MODEL = "gemini-of-the-environment"
    assert refresh_snapshot().model == "gemini-of-the-environment"
    GatewaySettings.objects.update(model="gemini-stored")
    assert refresh_snapshot().model == "gemini-stored"


def test_slow_reader_never_replaces_a_newer_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_reads, go_on = threading.Event(), threading.Event()
    results = iter(["older", "newer"])

    def read_slowly() -> str:
        result = next(results)
        if result == "older":
            first_reads.set()
            go_on.wait(timeout=60)
        return result

    monkeypatch.setattr("settings_app.snapshot._read_snapshot", read_slowly)
    first = threading.Thread(target=refresh_snapshot)
    first.start()
    first_reads.wait(timeout=60)
    second = threading.Thread(target=refresh_snapshot)
    second.start()
    second.join(timeout=0.05)  # it would have finished by now if it did not wait for the first
    go_on.set()
    first.join()
    second.join()
    assert current_snapshot() == "newer"


def test_its_representation_does_not_show_the_key(settings: Any) -> None:
    settings.GEMINI_API_KEY = "environment-key"
    assert "environment-key" not in repr(refresh_snapshot())
