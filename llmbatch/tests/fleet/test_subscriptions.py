"""A process receives messages again whatever happened to Redis before."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis
from channels_redis.pubsub import RedisPubSubChannelLayer

from batching import messages
from batching.messages import Subscription
from batching.process.supervisor import Supervisor
from llmbatch.tests.fixtures.server import PATIENCE_S
from llmbatch.tests.fixtures.services import OwnRedis

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    monkeypatch.setattr(messages, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(messages, "PING_TIMEOUT_S", 0.3)
    with OwnRedis() as server:
        yield server


@asynccontextmanager
async def receiving(server: OwnRedis) -> AsyncIterator[tuple[Subscription, asyncio.Queue[str]]]:
    """Runs a receiver as a process of the fleet does; yields what it receives."""
    layer = RedisPubSubChannelLayer(hosts=[server.url])
    subscription, received = Subscription(layer, "inbox"), asyncio.Queue[str]()

    async def receive() -> None:
        while True:
            received.put_nowait((await subscription.receive())["type"])

    supervisor = Supervisor()
    supervisor.start("receive", receive)
    supervisor.start("watch", subscription.watch)
    try:
        yield subscription, received
    finally:
        await supervisor.stop()
        await layer.flush()


async def until_received(subscription: Subscription, received: asyncio.Queue[str]) -> None:
    """Waits until pings arrive, then sends a message."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with asyncio.timeout(1):
                    await subscription.ping()
                break
            except (TimeoutError, redis.RedisError):
                await asyncio.sleep(0.05)
        await subscription._layer.send("inbox", {"type": "requests.finished"})
        assert await received.get() == "requests.finished"


async def test_redis_that_starts_after_the_process(server: OwnRedis) -> None:
    await asyncio.to_thread(server.stop)
    async with receiving(server) as (subscription, received):
        with pytest.raises(redis.ConnectionError):
            await subscription.ping()
        await asyncio.sleep(0.5)  # the receiver tries more than once
        await asyncio.to_thread(server.start)
        await until_received(subscription, received)


async def test_redis_that_restarts(server: OwnRedis) -> None:
    async with receiving(server) as (subscription, received):
        await until_received(subscription, received)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await until_received(subscription, received)


@pytest.mark.parametrize("refusal", [("-subscribe",), ("resetchannels", "&another")])
async def test_permission_that_comes_later(server: OwnRedis, refusal: tuple[str, ...]) -> None:
    admin = redis.Redis.from_url(server.url)
    admin.execute_command("ACL", "SETUSER", "default", *refusal)
    async with receiving(server) as (subscription, received):
        with pytest.raises((TimeoutError, redis.RedisError)):
            async with asyncio.timeout(1):
                await subscription.ping()
        await asyncio.sleep(0.3)  # until the receiver was refused, too
        admin.execute_command("ACL", "SETUSER", "default", "allchannels", "+subscribe")
        await until_received(subscription, received)
        assert admin.pubsub_numsub("inbox") == [(b"inbox", 1)]
    admin.close()


async def test_permission_that_is_taken_and_given_back(server: OwnRedis) -> None:
    admin = redis.Redis.from_url(server.url)
    async with receiving(server) as (subscription, received):
        await until_received(subscription, received)
        admin.execute_command("ACL", "SETUSER", "default", "resetchannels", "&another")
        with pytest.raises((TimeoutError, redis.RedisError)):
            async with asyncio.timeout(1):
                await subscription.ping()
        admin.execute_command("ACL", "SETUSER", "default", "allchannels")
        await until_received(subscription, received)
    admin.close()


async def test_pings_leave_no_subscription_and_no_queue(server: OwnRedis) -> None:
    admin = redis.Redis.from_url(server.url)
    async with receiving(server) as (subscription, received):
        await until_received(subscription, received)
        for _ in range(20):
            await subscription.ping()
        assert admin.pubsub_channels() == [b"inbox"]
        assert set(subscription._layer.channels) == {"inbox"}
        assert received.empty(), "pings are no messages"
    admin.close()
