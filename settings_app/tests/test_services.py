"""`update_settings` is atomic, keeps concurrent changes, and announces each change."""

import logging
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import IntegrityError, transaction

from settings_app.history import Author
from settings_app.models import GatewaySettings, Lane, Via
from settings_app.services import CHANGED_CHANNEL, update_settings
from settings_app.snapshot import current_snapshot, refresh_snapshot
from settings_app.tests.stored import run_at_once

KEY = "AIzaSyFirst-key-of-the-tests-wxyz"


class FullLayer(InMemoryChannelLayer):
    async def send(self, channel: str, message: dict[str, Any]) -> None:
        raise ChannelFull(channel)


class BrokenLayer(InMemoryChannelLayer):
    async def send(self, channel: str, message: dict[str, Any]) -> None:
        raise ConnectionError("the layer is away")


@pytest.fixture
def layer(settings: Any) -> InMemoryChannelLayer:
    """A channel layer that no other test uses."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    return get_channel_layer()


def announcements(layer: InMemoryChannelLayer) -> list[dict[str, Any]]:
    waiting = layer.channels[CHANGED_CHANNEL].qsize() if CHANGED_CHANNEL in layer.channels else 0
    return [async_to_sync(layer.receive)(CHANGED_CHANNEL) for _ in range(waiting)]


@pytest.mark.django_db
def test_every_change_raises_the_version_by_one() -> None:
    first = refresh_snapshot().version
    update_settings(model="a")
    update_settings(lanes={2: {"tokens": 5}, 1: {"tokens": 6}})
    assert refresh_snapshot().version == first + 2


@pytest.mark.django_db
@pytest.mark.parametrize("nothing", [{}, {"lanes": {}}, {"lanes": {2: {}}}, {"model": None}])
def test_no_change_keeps_the_version(nothing: dict[str, Any]) -> None:
    before = GatewaySettings.objects.values().get()
    update_settings(**nothing)
    assert GatewaySettings.objects.values().get() == before


@pytest.mark.django_db
def test_change_sets_its_timestamp() -> None:
    before = Lane.objects.get(priority=2).updated_at, GatewaySettings.objects.get().updated_at
    update_settings(lanes={2: {"tokens": 5}})
    assert Lane.objects.get(priority=2).updated_at > before[0]
    assert GatewaySettings.objects.get().updated_at > before[1]


@pytest.mark.django_db
def test_value_that_the_database_refuses_rolls_back_the_whole_change() -> None:
    before = refresh_snapshot()
    with pytest.raises(IntegrityError):
        update_settings(model="b", lanes={2: {"tokens": 5}, 1: {"max_batch": 101}})
    after = refresh_snapshot()
    assert (after.model, after.lanes, after.version) == (before.model, before.lanes, before.version)


@pytest.mark.django_db(transaction=True)
def test_change_is_announced_once_after_it_is_stored(layer: InMemoryChannelLayer) -> None:
    with transaction.atomic():
        update_settings(model="c")
        assert announcements(layer) == []
    assert announcements(layer) == [{"type": "settings.changed"}]
    assert current_snapshot().model == "c"


@pytest.mark.django_db(transaction=True)
def test_change_that_is_rolled_back_is_neither_announced_nor_seen(
    layer: InMemoryChannelLayer,
) -> None:
    before = current_snapshot()
    with transaction.atomic():
        update_settings(model="d")
        transaction.set_rollback(True)
    assert announcements(layer) == []
    assert current_snapshot() is before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("backend", [FullLayer, BrokenLayer])
def test_change_is_kept_if_the_layer_fails(
    settings: Any, caplog: pytest.LogCaptureFixture, backend: type
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.{backend.__name__}"}}
    update_settings(model="e")
    assert current_snapshot().model == "e"
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.action for r in warnings] == ["settings_unannounced"]


@pytest.mark.django_db(transaction=True)
def test_change_is_kept_without_a_layer(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.CHANNEL_LAYERS = {}
    update_settings(model="f")
    assert current_snapshot().model == "f"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.django_db(transaction=True)
async def test_change_from_a_sync_view_under_an_event_loop_reaches_its_consumer(
    layer: InMemoryChannelLayer,
) -> None:
    await sync_to_async(update_settings)(model="g")
    assert await layer.receive(CHANGED_CHANNEL) == {"type": "settings.changed"}
    assert current_snapshot().model == "g"


@pytest.mark.django_db(transaction=True)
def test_changes_of_different_fields_at_the_same_time_are_all_kept() -> None:
    first = current_snapshot().version
    run_at_once(
        lambda: update_settings(api_key=KEY),
        lambda: update_settings(model="h"),
        lambda: update_settings(lanes={2: {"tokens": 11}}),
        lambda: update_settings(lanes={2: {"window_s": 0.5}}),
        lambda: update_settings(lanes={2: {"max_batch": 12}, 0: {"max_batch": 13}}),
        lambda: update_settings(lanes={0: {"tokens": 14}}),
    )
    snapshot = current_snapshot()
    high, low = snapshot.lanes[2], snapshot.lanes[0]
    assert (snapshot.api_key, snapshot.model) == (KEY, "h")
    assert (high.tokens, high.window_s, high.max_batch) == (11, 0.5, 12)
    assert (low.tokens, low.max_batch) == (14, 13)
    assert snapshot.version == first + 6


@pytest.mark.django_db(transaction=True)
def test_snapshot_in_memory_is_the_newest_after_a_race() -> None:
    run_at_once(
        *(lambda tokens=t: update_settings(lanes={1: {"tokens": tokens}}) for t in range(1, 9))
    )
    stored = Lane.objects.get(priority=1).tokens
    assert current_snapshot().lanes[1].tokens == stored
    assert current_snapshot().version == GatewaySettings.objects.get().version


@pytest.mark.django_db
def test_log_names_changed_fields_and_author_but_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    update_settings(api_key=KEY, lanes={2: {"tokens": 54_321}}, by=Author("ann", Via.ADMIN))
    (record,) = (r for r in caplog.records if r.name == "settings_app")
    assert record.getMessage() == "Settings were changed by ann: api_key, HIGH tokens."
    assert record.fields == ["api_key", "HIGH tokens"]
