"""Prometheus figures of a worker, each named once; the one seam that sets them is the attempt."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

tasks = Counter("spindle_tasks", "Attempts that ended, by outcome", ["queue", "outcome"])
nodes = Counter("spindle_nodes", "Nodes that ended, by outcome", ["type", "outcome"])
node_seconds = Histogram("spindle_node_seconds", "A node's own time", ["type"], buckets=SECONDS)
schedule_to_start = Histogram("spindle_schedule_to_start_seconds", "From ready to taken", ["queue"], buckets=SECONDS)
commits_refused = Counter("spindle_commits_refused", "Commits refused because the lease was lost")
slots_busy = Gauge("spindle_slots_busy", "Tasks that run now", ["queue"])
artifact_bytes = Counter("spindle_artifact_bytes", "Bytes read and written by nodes", ["direction"])
model_loads = Counter("spindle_model_loads", "Times that a model was loaded", ["model"])
model_load_seconds = Histogram("spindle_model_load_seconds", "Time to load a model", buckets=SECONDS)
models_resident = Gauge("spindle_models_resident_bytes", "Memory that loaded models take")
