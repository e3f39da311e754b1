"""Connections to Redis; that it is away is `Unavailable`, mapped here and nowhere else."""

from collections.abc import Awaitable
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from spindle_common.problems import Unavailable

BLOCK_MS = 5000
"""How long a reader blocks until it looks around."""
_BLOCKED_TIMEOUT = 10.0
_CONNECTIONS = 100
_CONNECTION_SECONDS = 20.0


def connect(url: str, *, blocking: bool = False) -> "aioredis.Redis":
    """Open a client; a blocking one is for one reader, times out after its block and never retries by itself.

    Others may ask for as much at once as they like: what finds every connection in use waits for one.
    """
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), 0 if blocking else 3)
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        protocol=3,
        decode_responses=True,
        socket_keepalive=True,
        socket_connect_timeout=5.0,
        socket_timeout=_BLOCKED_TIMEOUT if blocking else 5.0,
        retry=retry,
        retry_on_error=[] if blocking else [RedisConnectionError, RedisTimeoutError],
        max_connections=4 if blocking else _CONNECTIONS,
        timeout=_CONNECTION_SECONDS,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return aioredis.Redis.from_pool(pool)


async def away(work: Awaitable[Any]) -> Any:
    """Await a Redis command; every way of its being away becomes `Unavailable`."""
    try:
        return await work
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis: {error or type(error).__name__}", retry_after=2.0) from error
