"""Prometheus figures of the API: requests and streams."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

requests = Counter("spindle_http_requests", "HTTP requests answered", ["method", "route", "status"])
request_seconds = Histogram("spindle_http_request_seconds", "Time to the answer", ["method", "route"], buckets=_SECONDS)
websockets = Gauge("spindle_websockets", "WebSockets that watch runs now")
event_streams = Gauge("spindle_event_streams", "Server-sent event streams open now")
websocket_lag = Histogram(
    "spindle_websocket_lag_seconds", "From a durable event to its sending", buckets=(*_SECONDS, 60, 300)
)
slow_watchers = Counter("spindle_slow_watchers", "Watchers sent away because they did not read")
artifact_bytes = Counter("spindle_artifact_bytes", "Artifact bytes that went through the API", ["direction"])
