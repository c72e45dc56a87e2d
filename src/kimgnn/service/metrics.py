"""What a service tells Prometheus of itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service, in a registry of their own.

    Args:
        waiting: Structures in the queue.
        restarts: Of the processes that compute.
        unfinished: Structures of jobs that are not done.
    """

    def __init__(self, waiting: Callable[[], int], restarts: Callable[[], int], unfinished: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("kimgnn_requests", "Requests by path and status", ["path", "status"], registry=registry)
        self.request_seconds = Histogram(
            "kimgnn_request_seconds",
            "From request to answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.structures = Counter(
            "kimgnn_structures", "Entries of requests by model and outcome", ["model", "outcome"], registry=registry
        )
        self.batch_structures = Histogram(
            "kimgnn_batch_structures", "Entries computed at once", buckets=SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "kimgnn_batch_seconds", "Reading and computing a batch", buckets=SECONDS, registry=registry
        )
        for name, text, function in (
            ("kimgnn_queue_structures", "Entries that wait to be computed", waiting),
            ("kimgnn_worker_restarts", "Processes that had to be started again", restarts),
            ("kimgnn_job_structures", "Structures of jobs that are not done", unfinished),
        ):
            Gauge(name, text, registry=registry).set_function(function)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_structures.observe(size)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return everything, as Prometheus reads it."""
        return generate_latest(self.registry)
