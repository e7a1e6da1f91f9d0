"""The positions in the queue are the order in which requests leave."""

from random import Random

import pytest
from django.utils import timezone

from batching.engine.planner import Planner
from batching.store.lane_rules import current_rules
from batching.store.queue import list_queued_ids, queue_position, queue_positions, read_waiting
from chats.models import Chat
from settings_app.models import ApiClient, Lane
from settings_app.snapshot import refresh_snapshot


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(5))
def test_positions_are_the_order_in_which_the_planner_lets_requests_leave(seed: int) -> None:
    random = Random(seed)
    Lane.objects.update(max_batch=1)
    refresh_snapshot()
    clients = [1, 1, *(ApiClient.objects.create(name=name).pk for name in "xy")]
    now = timezone.now()
    Chat.objects.bulk_create(
        Chat(
            client_id=random.choice(clients),
            username=random.choice("abc"),
            request_id=f"{number}",
            prompt="Why?",
            priority=random.choice([2, 2, 1]),
            created_at=now,
            received_at=now,
            due_at=now,
            deadline=now,
        )
        for number in range(40)
    )
    planner = Planner(current_rules())
    for item in read_waiting(list_queued_ids(), rules=current_rules()):
        planner.push(item)
    left: dict[int, list[int]] = {1: [], 2: []}
    while batch := planner.take(float("inf"), lambda _: True):
        left[batch.priority] += [item.id for item in batch.items]
    expected = {pk: place for ids in left.values() for place, pk in enumerate(ids, 1)}
    assert {chat.pk: queue_position(chat) for chat in Chat.objects.all()} == expected
    some = random.sample(sorted(expected), 7)
    assert queue_positions(some) == {pk: expected[pk] for pk in some}
