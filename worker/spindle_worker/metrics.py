"""Prometheus figures of a worker, each named once; the one seam that sets them is the attempt."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

registry = CollectorRegistry()
"""The worker's own, since control names some of its figures alike."""
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)
GCCollector(registry=registry)

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

tasks = Counter("spindle_tasks", "Attempts that ended, by outcome", ["queue", "outcome"], registry=registry)
nodes = Counter("spindle_nodes", "Nodes that ended, by outcome", ["type", "outcome"], registry=registry)
node_seconds = Histogram("spindle_node_seconds", "A node's own time", ["type"], buckets=SECONDS, registry=registry)
schedule_to_start = Histogram(
    "spindle_schedule_to_start_seconds", "From ready to taken", ["queue"], buckets=SECONDS, registry=registry
)
commits_refused = Counter("spindle_commits_refused", "Commits refused because the lease was lost", registry=registry)
slots_busy = Gauge("spindle_slots_busy", "Tasks that run now", ["queue"], registry=registry)
artifact_bytes = Counter("spindle_artifact_bytes", "Bytes read and written by nodes", ["direction"], registry=registry)
cache_looks = Counter(
    "spindle_cache_looks",
    "Looks into the content cache: hit, stored (a hit that Redis had forgotten), miss, wait (for another task)",
    ["type", "outcome"],
    registry=registry,
)
model_loads = Counter("spindle_model_loads", "Times that a model was loaded", ["model"], registry=registry)
model_load_seconds = Histogram("spindle_model_load_seconds", "Time to load a model", buckets=SECONDS, registry=registry)
models_resident = Gauge("spindle_models_resident_bytes", "Memory that loaded models take", registry=registry)
children = Gauge("spindle_children", "Processes that run native nodes", registry=registry)
child_deaths = Counter(
    "spindle_child_deaths", "Processes that died in the middle of a native node", ["cause"], registry=registry
)
