"""Prometheus figures of the control plane, each named once; the seams that set them are dispatch and the driver."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

runs = Counter("spindle_runs", "Runs that ended, by status", ["status"])
run_seconds = Histogram("spindle_run_seconds", "From acceptance to end", ["status"], buckets=SECONDS)
runs_driven = Gauge("spindle_runs_driven", "Runs that this control drives now")
queue_depth = Gauge("spindle_queue_depth", "Tasks that wait for a worker", ["queue"])
queue_oldest = Gauge("spindle_queue_oldest_seconds", "Age of the oldest task that waits", ["queue"])
queue_stuck = Gauge("spindle_queue_stuck_seconds", "Tasks wait although slots are free and none is taken", ["queue"])
queue_slots = Gauge("spindle_queue_slots", "Slots of live workers", ["queue"])
workers = Gauge("spindle_workers", "Live workers")
redis_memory = Gauge("spindle_redis_memory_bytes", "Memory that Redis uses")
redis_limit = Gauge("spindle_redis_memory_limit_bytes", "Memory that Redis may use; 0: no limit")
fences_refused = Counter("spindle_fences_refused", "Steps refused because another attempt or driver has the right")
leases_lapsed = Counter("spindle_leases_lapsed", "Leases that ended without a commit", ["cause"])
driver_progress = Gauge("spindle_driver_progress_seconds", "Since the driver's loops last went round")
driver_lag = Gauge("spindle_driver_lag_seconds", "For which the first unread commit has waited in the driver's stream")
runs_stalled = Gauge("spindle_runs_stalled", "Driven runs that have nothing under way and do not go on")
mended = Counter("spindle_reconciled", "What the reconciler found out of place, and put right", ["what"])
reconciler_age = Gauge("spindle_reconciler_age_seconds", "Since the reconciler last finished")

garbage_runs = Counter("spindle_garbage_runs", "Ended runs that a garbage collection forgot")
garbage_artifacts = Counter("spindle_garbage_artifacts", "Artifacts that a garbage collection deleted")
garbage_bytes = Counter("spindle_garbage_bytes", "Bytes that garbage collections freed, orphaned uploads included")
garbage_age = Gauge("spindle_garbage_age_seconds", "Since a garbage collection last came to its end")


class Follower:
    """Lets a Prometheus counter follow one that Redis keeps, which all controls share."""

    def __init__(self, counter: Counter) -> None:
        self._counter, self._seen = counter, 0

    def follow(self, value: int) -> None:
        """Take in the shared value; one that fell began anew."""
        self._counter.inc(value - self._seen if value >= self._seen else value)
        self._seen = value
