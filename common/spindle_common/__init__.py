"""What both planes share: contracts, queue protocol, events, graph, artifacts, problems, telemetry."""

__version__ = "0.1.0"
