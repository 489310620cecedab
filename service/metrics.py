"""What ``/metrics`` tells: counts and times, never a name from a request."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.counts import Counts
from service.trace import ModelKey, Trace

STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10, 30)
BATCH_IMAGES = (1, 2, 4, 8, 16, 32)


class HasQueue(Protocol):
    """Something with a queue, of a model's version.

    Attributes:
        key: name and version.
    """

    key: ModelKey

    @property
    def waiting(self) -> int:
        """How many wait."""


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
        self._requests = Counter(
            "longskip_requests",
            "Answers by model, format and status.",
            ("model", "format", "status"),
            registry=self._registry,
        )
        self._stages = Histogram(
            "longskip_stage_seconds",
            "Time of an image in each stage of its way.",
            ("model", "stage"),
            buckets=STAGE_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "longskip_batch_images",
            "Images that ran together.",
            ("model",),
            buckets=BATCH_IMAGES,
            registry=self._registry,
        )
        self._refused = Counter(
            "longskip_refused",
            "Requests that were turned away, by reason.",
            ("reason",),
            registry=self._registry,
        )

    def observe(self, trace: Trace, status: int) -> None:
        """Count one answered request."""
        model = trace.model.name if trace.model is not None else ""
        self._requests.labels(model, trace.answer_format, str(status)).inc()
        if trace.refused_for:
            self._refused.labels(trace.refused_for).inc()
        for stage, seconds in trace.stages_s.items():
            self._stages.labels(model, stage).observe(seconds)
        self.counts.observe(trace, status)

    def batch_observer(self, name: str, version: int) -> Callable[[int, float], None]:
        """Return what is to be called with the images and the seconds of each batch."""
        sizes = self._batches.labels(name)

        def observe(images: int, seconds: float) -> None:
            sizes.observe(images)
            self.counts.observe_batch((name, version), images, seconds)

        return observe

    def watch_queues(self, queues: Callable[[], Iterable[HasQueue]]) -> None:
        """Report the depth of the queues that there are whenever somebody asks."""
        self._registry.register(_QueueDepths(queues))

    def exposition(self) -> bytes:
        """Return Prometheus' text format."""
        return generate_latest(self._registry)


class _QueueDepths(Collector):
    def __init__(self, queues: Callable[[], Iterable[HasQueue]]) -> None:
        self._queues = queues

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "longskip_queue_depth", "Images that wait for their model.", labels=("model", "version")
        )
        waiting: Tally[ModelKey] = Tally()
        for queue in self._queues():  # two of one version while a new file takes over
            waiting[queue.key] += queue.waiting
        for (name, version), count in waiting.items():
            family.add_metric((name, str(version)), count)
        yield family
