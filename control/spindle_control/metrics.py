"""Prometheus figures of the control plane, each named once; the seams that set them are dispatch and the driver."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

runs = Counter("spindle_runs", "Runs that ended, by status", ["status"])
run_seconds = Histogram("spindle_run_seconds", "From acceptance to end", ["status"], buckets=SECONDS)
runs_driven = Gauge("spindle_runs_driven", "Runs that this control drives now")
queue_depth = Gauge("spindle_queue_depth", "Tasks that wait for a worker", ["queue"])
queue_oldest = Gauge("spindle_queue_oldest_seconds", "Age of the oldest task that waits", ["queue"])
queue_slots = Gauge("spindle_queue_slots", "Slots of live workers", ["queue"])
workers = Gauge("spindle_workers", "Live workers")
fences_refused = Gauge("spindle_fences_refused_total", "Steps refused because another attempt or driver has the right")
leases_lapsed = Gauge("spindle_leases_lapsed_total", "Tasks whose worker fell silent")
driver_progress = Gauge("spindle_driver_progress_seconds", "Since the driver's loops last went round")
reconciler_age = Gauge("spindle_reconciler_age_seconds", "Since the reconciler last finished")
