"""`python -m spindle_worker`: one worker process."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping

import uvloop

from spindle_common import __version__
from spindle_common.artifacts import open_store
from spindle_common.cache import Cache
from spindle_common.connection import connect
from spindle_common.contracts import Manifest
from spindle_common.garbage import Garbage
from spindle_common.problems import InvalidRequest, SpindleError
from spindle_common.queue import Queue
from spindle_common.telemetry import configure_logging
from spindle_common.warming import warm_up
from spindle_worker.attempt import Equipment
from spindle_worker.catalog import node_specs, offered_queue
from spindle_worker.children import Children, Limits, Rearing
from spindle_worker.committer import patiently
from spindle_worker.health import Health
from spindle_worker.loop import Worker
from spindle_worker.models import CacheOptions, ModelCache, ModelLibrary, resolve_device
from spindle_worker.node import NodeSpec
from spindle_worker.patience import PatientStore
from spindle_worker.provenance import Provenance
from spindle_worker.reuse import ContentCache, Keys, environment
from spindle_worker.secrets import Secrets
from spindle_worker.settings import WorkerSettings

log = logging.getLogger(__name__)
_AT_ONCE_SECONDS = 2.0


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    settings = WorkerSettings()
    configure_logging(settings.log_level, settings.log_format)
    try:
        uvloop.run(serve(settings))
    except SpindleError as error:
        print(f"spindle-worker: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


async def serve(settings: WorkerSettings) -> None:
    """Wire a worker together and run it."""
    _refuse_open_metrics(settings)
    device = resolve_device(settings.device)
    slots = _slots(settings, accelerated=device != "cpu")
    specs = node_specs(settings.nodes, test_nodes=settings.test_nodes)
    library = ModelLibrary(settings.models, settings.default_model, settings.data_dir)
    models = ModelCache(library, CacheOptions(0, device))  # for recipes: nothing is loaded in this process
    client = connect(settings.redis)
    garbage = Garbage(client)
    store = open_store(settings.data_dir, settings.s3_url, lambda digest: patiently(lambda: garbage.spare(digest)))
    children = Children(_rearing(settings, device), _limits(settings, slots))
    queue = Queue(client)
    provenance = Provenance(queue, asyncio.get_running_loop())
    patient = PatientStore(store, settings.store_patience_seconds)
    secrets = Secrets(settings.secrets_dir)
    keys = Keys(environment(device, settings.dtype), models.library)
    cache = ContentCache(Cache(client), garbage, store, keys) if settings.cache else None
    equipment = Equipment(queue, patient, specs, children, models, secrets, provenance, cache)
    worker = Worker(equipment, settings, slots)
    health = Health(settings.worker_host, settings.worker_port, worker.trouble, settings.metrics_key)
    url = settings.metrics_url or f"http://{_reachable(settings.worker_host)}:{health.port}/metrics"
    worker.announce(_manifest(worker.name, specs, slots, library, url))
    health.start()
    _obey_signals(worker)
    children.start()
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
    log.info("worker %s: %s", worker.name, ", ".join(f"{count} {queue}" for queue, count in slots.items()))
    try:
        await worker.run()
    finally:
        await children.close()
        if cache is not None:
            await cache.close()
        health.close()
        await store.close()
        await client.aclose()


def _slots(settings: WorkerSettings, *, accelerated: bool) -> dict[str, int]:
    every = {"gpu": int(accelerated), "cpu": settings.cpu_slots, "async": settings.async_slots}
    return {queue: count for queue, count in every.items() if count}


def _manifest(name: str, specs: Mapping[str, NodeSpec], slots: dict[str, int], library: ModelLibrary, url: str) -> str:
    types = [spec.node_type(offered_queue(spec, device="gpu" in slots)) for spec in specs.values()]
    return Manifest(
        worker=name,
        version=__version__,
        host=socket.gethostname(),
        metrics_url=url,
        slots=slots,
        node_types=types,
        models=library.infos(),
    ).model_dump_json(by_alias=True)


def _reachable(host: str) -> str:
    """The name under which others find us: an address for all interfaces is none."""
    return socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104


def _refuse_open_metrics(settings: WorkerSettings) -> None:
    """Nothing listens beyond loopback without authentication."""
    local = settings.worker_host == "localhost" or ipaddress.ip_address(settings.worker_host).is_loopback
    if not local and settings.metrics_key is None:
        raise InvalidRequest("SPINDLE_WORKER_HOST is beyond loopback, which needs SPINDLE_METRICS_KEY")


def _rearing(settings: WorkerSettings, device: str) -> Rearing:
    return Rearing(
        worker=os.getpid(),
        path=tuple(sys.path),
        nodes=settings.nodes,
        test_nodes=settings.test_nodes,
        models=settings.models,
        default_model=settings.default_model,
        data_dir=str(settings.data_dir),
        device=device,
        dtype=settings.dtype,
        threads=settings.threads,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def _limits(settings: WorkerSettings, slots: Mapping[str, int]) -> Limits:
    """A child for each native slot; native nodes in light tasks share as many as there are cores' worth of slots."""
    light = {"async": max(1, settings.cpu_slots)} if "async" in slots else {}
    places = {queue: count for queue, count in slots.items() if queue != "async"} | light
    models = frozenset({"gpu"} if "gpu" in slots else places)
    return Limits(places, settings.model_memory, models, settings.child_memory)


def _obey_signals(worker: Worker) -> None:
    """The first SIGTERM or SIGINT drains, the second ends at once, though the event loop may be blocked."""
    loop = asyncio.get_running_loop()
    heard: list[int] = []

    def obey(number: int, frame: object) -> None:
        del frame
        heard.append(number)
        loop.call_soon_threadsafe(worker.stop)
        if len(heard) == 2:
            last = threading.Timer(_AT_ONCE_SECONDS, os._exit, [128 + number])
            last.daemon = True
            last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, obey)


if __name__ == "__main__":
    main()
