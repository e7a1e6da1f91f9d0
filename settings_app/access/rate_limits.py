"""How many prompts a key may send within any minute, exactly, also when fifty arrive at once."""

import logging
import math
import time
from collections import deque
from functools import lru_cache
from secrets import token_hex

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError
from rest_framework.exceptions import Throttled

from settings_app.access.api_keys import Principal

logger = logging.getLogger("settings_app")

MINUTE_S = 60.0
REDIS_TIMEOUT_S = 0.5

# One step for Redis, so that nobody comes between looking and counting. Its own clock counts.
_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60)
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('ZADD', KEYS[1], now, ARGV[2])
  redis.call('EXPIRE', KEYS[1], 61)
  return '0'
end
return tostring(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + 60 - now)
"""


class MinuteLog:
    """The turns of the last minute by key, in this process. Pure: `now` is an argument."""

    def __init__(self) -> None:
        self._turns: dict[str, deque[float]] = {}

    def take(self, prefix: str, limit: int, *, now: float) -> float:
        """Counts a turn and gives 0, or gives the seconds until the next one is free."""
        turns = self._turns.setdefault(prefix, deque())
        while turns and turns[0] <= now - MINUTE_S:
            turns.popleft()
        if len(turns) >= limit:
            return turns[0] + MINUTE_S - now
        turns.append(now)
        return 0.0


_LOG = MinuteLog()


async def take_turn(principal: Principal) -> None:
    """Raises Throttled, which names the limit and its end."""
    limit = principal.requests_per_minute
    if limit is None:
        return
    wait_s = await _take(principal.prefix, limit)
    if wait_s > 0:
        noun = "request" if limit == 1 else "requests"
        seconds = math.ceil(wait_s)
        error = Throttled(wait=seconds)
        error.detail = (
            f"This API key may send {limit} {noun} per minute; the next one in {seconds} s."
        )
        raise error


async def _take(prefix: str, limit: int) -> float:
    """In a fleet all processes count together; without Redis each counts for itself."""
    if settings.REDIS_URL:
        try:
            client = _redis_client(settings.REDIS_URL)
            found = await client.eval(_TAKE, 1, f"llmbatch:turns:{prefix}", limit, token_hex(8))
            return float(found)
        except (RedisError, OSError) as error:
            logger.warning("Rate limits are counted per process (%s).", type(error).__name__)
    return _LOG.take(prefix, limit, now=time.monotonic())


@lru_cache(maxsize=1)
def _redis_client(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
