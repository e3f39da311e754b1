"""The control plane wired together: what the routes need, and the loops that run beside them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from spindle_common.artifacts import ArtifactNotFound, ArtifactStore, open_store
from spindle_common.cache import Cache
from spindle_common.connection import away, connect
from spindle_common.events import Hub
from spindle_common.garbage import Garbage
from spindle_common.problems import Unavailable
from spindle_common.queue import Queue
from spindle_common.stopping import stop
from spindle_control import metrics
from spindle_control.api_keys import ApiKeys
from spindle_control.drive import Parts
from spindle_control.driver import Driver
from spindle_control.forking import Forking
from spindle_control.garbage import Collections, Collector, Policy
from spindle_control.kept import KeptResults
from spindle_control.library import Library
from spindle_control.operations import Operations
from spindle_control.planner import Planner
from spindle_control.registry import Registry
from spindle_control.retention import Retention
from spindle_control.runs import RunService
from spindle_control.settings import ControlSettings
from spindle_control.store import Store
from spindle_control.stored import StoredWorkflows

log = logging.getLogger(__name__)
_START_SECONDS = 30.0
_PATIENCE_SECONDS = 0.25


@dataclass(frozen=True)
class Services:
    """What the routes work with."""

    settings: ControlSettings
    store: Store
    artifacts: ArtifactStore
    runs: RunService
    operations: Operations
    library: Library
    registry: Registry
    keys: ApiKeys
    driver: Driver
    kept: KeptResults
    redis_health: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_services(settings: ControlSettings) -> AsyncIterator[Services]:
    """Open everything, run the loops while the block runs, close everything.

    Raises:
        RedisRefused, Unavailable: what is needed at the start is away or unfit.

    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    client = connect(settings.redis)
    queue, garbage = Queue(client), Garbage(client)
    hub = Hub(settings.redis)
    artifacts = open_store(settings.data_dir, settings.s3_url, announce=garbage.spare)
    dustbin = open_store(settings.data_dir, settings.s3_url)
    await _patiently(queue.check_server)
    store = await Store.open(settings.database)
    try:
        registry = Registry(queue, store)
        await registry.load()
        parts = Parts(queue, store, artifacts, settings)
        planner = Planner(registry, settings)
        library = Library(StoredWorkflows(store), planner, garbage.spare, settings.max_workflow_versions)
        driver = Driver(parts, library, settings.redis)
        runs = RunService(parts, library, driver, hub)
        operations = Operations(parts, Forking(library, partial(_exists, artifacts)), driver, runs)

        async def redis_health() -> None:
            await away(client.ping())

        services = Services(
            settings,
            store,
            artifacts,
            runs,
            operations,
            library,
            registry,
            ApiKeys(settings.keys_file),
            driver,
            KeptResults(Cache(client), artifacts),
            redis_health,
        )
        collector = Collector(garbage, Retention(store), dustbin, Policy.of(settings), dustbin)
        collections = Collections(collector, garbage, settings.garbage_seconds)
        _show(driver, collections)
        await driver.begin()
        loops = [asyncio.create_task(work) for work in (driver.run(), registry.run(), hub.run(), collections.run())]
        try:
            yield services
        finally:
            await stop(loops)
    finally:
        await store.close()
        await hub.close()
        await artifacts.close()
        await dustbin.close()
        await client.aclose()


def _show(driver: Driver, collections: Collections) -> None:
    metrics.garbage_age.set_function(lambda: collections.age)
    metrics.driver_progress.set_function(lambda: driver.silence)
    metrics.driver_lag.set_function(lambda: driver.reconciler.lag)
    metrics.runs_stalled.set_function(lambda: len(driver.reconciler.stalled))
    metrics.reconciler_age.set_function(lambda: driver.reconciler_age)


async def _exists(artifacts: ArtifactStore, digest: str) -> bool:
    try:
        await artifacts.head(digest)
    except ArtifactNotFound:
        return False
    return True


async def _patiently(check: Callable[[], Awaitable[None]]) -> None:
    """Wait for a Redis that is still starting."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while True:
        try:
            return await check()
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_PATIENCE_SECONDS)
