"""Limits the prompts that an API key may send in any 60 seconds, exactly even in a burst."""

import logging
import math
import time
from collections import deque
from functools import lru_cache
from secrets import token_hex

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError
from rest_framework.exceptions import ErrorDetail, Throttled

from settings_app.access.api_keys import Principal

logger = logging.getLogger("settings_app")

MINUTE_S = 60.0
REDIS_TIMEOUT_S = 0.5

# Redis runs this script atomically, and all processes use its clock.
_ADD_REQUEST = """
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
    """The requests of this process in the last minute, by key. `now` is an argument for tests."""

    def __init__(self) -> None:
        self._requests: dict[str, deque[float]] = {}

    def add(self, prefix: str, limit: int, *, now: float) -> float:
        """Counts a request and returns 0, or returns the seconds until the next one is allowed."""
        requests = self._requests.setdefault(prefix, deque())
        while requests and requests[0] <= now - MINUTE_S:
            requests.popleft()
        if len(requests) >= limit:
            return requests[0] + MINUTE_S - now
        requests.append(now)
        return 0.0


_LOG = MinuteLog()


async def check_rate_limit(principal: Principal) -> None:
    """Counts a request; raises Throttled, which names the limit and the time until the next one."""
    limit = principal.requests_per_minute
    if limit is None:
        return
    wait_s = await _add_request(principal.prefix, limit)
    if wait_s > 0:
        noun = "request" if limit == 1 else "requests"
        seconds = math.ceil(wait_s)
        error = Throttled(wait=seconds)
        error.detail = ErrorDetail(
            f"This API key may send {limit} {noun} per minute; the next one in {seconds} s.",
            code=error.default_code,
        )
        raise error


async def _add_request(prefix: str, limit: int) -> float:
    """Counts in Redis for all processes, or in this process without Redis."""
    if settings.REDIS_URL:
        try:
            client = _redis_client(settings.REDIS_URL)
            found = await client.eval(
                _ADD_REQUEST, 1, f"llmbatch:turns:{prefix}", limit, token_hex(8)
            )
            return float(found)
        except (RedisError, OSError) as error:
            logger.warning("Without Redis (%s), limits are per process.", type(error).__name__)
    return _LOG.add(prefix, limit, now=time.monotonic())


@lru_cache(maxsize=1)
def _redis_client(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
