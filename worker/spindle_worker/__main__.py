"""`python -m spindle_worker`: one worker process."""

import asyncio
import importlib
import importlib.util
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import uvloop

from spindle_common import __version__
from spindle_common.artifacts import open_store
from spindle_common.contracts import Manifest
from spindle_common.garbage import Garbage
from spindle_common.problems import InvalidRequest, SpindleError
from spindle_common.queue import Queue, connect
from spindle_common.telemetry import configure_logging
from spindle_common.warming import warm_up
from spindle_worker import metrics
from spindle_worker.attempt import Equipment
from spindle_worker.catalog import node_specs, offered_queue
from spindle_worker.committer import patiently
from spindle_worker.health import Health
from spindle_worker.loop import Worker
from spindle_worker.models import CacheEvent, CacheOptions, ModelCache, ModelLibrary, resolve_device
from spindle_worker.models.device import quiet
from spindle_worker.node import NodeSpec
from spindle_worker.provenance import Provenance
from spindle_worker.secrets import Secrets
from spindle_worker.settings import WorkerSettings

log = logging.getLogger(__name__)


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
    options = CacheOptions(settings.model_memory, device, settings.dtype, settings.threads, listener=_count_models)
    models = ModelCache(library, options)
    client = connect(settings.redis)
    garbage = Garbage(client)
    store = open_store(settings.data_dir, settings.s3_url, lambda digest: patiently(lambda: garbage.spare(digest)))
    executors = {queue: ThreadPoolExecutor(count, thread_name_prefix=queue) for queue, count in slots.items()}
    queue = Queue(client)
    provenance = Provenance(queue, asyncio.get_running_loop())
    equipment = Equipment(queue, store, specs, executors, models, Secrets(settings.secrets_dir), provenance)
    worker = Worker(equipment, settings, slots)
    health = Health(settings.worker_host, settings.worker_port, lambda: worker.registered, settings.metrics_key)
    url = settings.metrics_url or f"http://{_reachable(settings.worker_host)}:{health.port}/metrics"
    worker.announce(_manifest(worker.name, specs, slots, library, url))
    health.start()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, worker.stop)
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    log.info("worker %s: %s", worker.name, ", ".join(f"{count} {queue}" for queue, count in slots.items()))
    try:
        await worker.run()
    finally:
        health.close()
        for executor in executors.values():
            executor.shutdown(wait=False, cancel_futures=True)
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


def _count_models(event: CacheEvent) -> None:
    if event.kind == "loaded":
        metrics.model_loads.labels(event.model).inc()
        metrics.model_load_seconds.observe(event.seconds)


def _warm_up() -> None:
    """Import what the first graph and the first picture need while nobody waits for it."""
    warm_up()
    if importlib.util.find_spec("torch") is None:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would tell at import that torchvision is not here
    importlib.import_module("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
    quiet()


if __name__ == "__main__":
    main()
