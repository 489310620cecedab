"""What ``/metrics`` tells: counts and times, never a name from a request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.counts import Counts
from service.trace import Trace

STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10, 30, 60)
BATCH_IMAGES = (1, 2, 4, 8, 16, 32)

# A series beside each other one, which tells only when that began.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """One registry per app, so that two apps in one process do not meet.

    Attributes:
        counts: the same by version, for the Open Inference Protocol.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        requests = Counter(
            "longskip_requests",
            "Answers by model, format and status.",
            ("model", "format", "status"),
            registry=self._registry,
        )
        stages = Histogram(
            "longskip_stage_seconds",
            "Time of an image in each stage of its way.",
            ("model", "version", "stage"),
            buckets=STAGE_SECONDS,
            registry=self._registry,
        )
        batches = Histogram(
            "longskip_batch_images",
            "Images that ran together.",
            ("model", "version"),
            buckets=BATCH_IMAGES,
            registry=self._registry,
        )
        refused = Counter(
            "longskip_refused",
            "Requests, and images of larger ones, that were turned away, by reason.",
            ("model", "reason"),
            registry=self._registry,
        )
        # Of each series looked up once; prometheus_client takes a lock and checks the labels.
        self._requests, self._refused = cache(requests.labels), cache(refused.labels)
        self._stages, self._batches = cache(stages.labels), cache(batches.labels)

    def observe(self, trace: Trace, status: int) -> None:
        """Count one answered request."""
        model, version = ("", "")
        if trace.model is not None:
            model, version = trace.model.name, str(trace.model.version)
        self._requests(model, trace.answer_format, str(status)).inc()
        if trace.refused_for:
            self._refused(model, trace.refused_for).inc()
        for reason in trace.refused_parts:
            self._refused(model, reason).inc()
        for stage, seconds in trace.stages_s.items():
            self._stages(model, version, stage).observe(seconds)
        self.counts.observe(trace, status)

    def batch_observer(self, name: str, version: int) -> Callable[[int, float], None]:
        """Return what is to be called with the images and the seconds of each batch."""
        sizes = self._batches(name, str(version))

        def observe(images: int, seconds: float) -> None:
            sizes.observe(images)
            self.counts.observe_batch((name, version), images, seconds)

        return observe

    @contextmanager
    def telling(self, collector: Collector) -> Iterator[None]:
        """Let the exposition tell what a collector tells, too, for as long as it lives."""
        self._registry.register(collector)
        try:
            yield
        finally:
            self._registry.unregister(collector)

    def exposition(self) -> bytes:
        """Return Prometheus' text format."""
        return generate_latest(self._registry)
