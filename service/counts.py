"""What each version was asked since the start, counted as Triton's statistics extension is."""

import time
from dataclasses import dataclass, field
from http import HTTPStatus

from service.trace import ModelKey, Trace

# Which stages of data's way are Triton's parts of an inference.
PARTS = {
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "run",
    "compute_output": "encode",
}
CLIENT_GONE = 499


@dataclass
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds


@dataclass
class VersionCounts:
    """The counts of one version.

    Attributes:
        images: that were answered.
        last_unix_s: when the last request was answered; 0: never.
        requests: by outcome, ``success``, ``fail`` and ``cancel``.
        parts: of requests that succeeded.
        batches: runs, by the number of images in them.
    """

    images: int = 0
    last_unix_s: float = 0.0
    requests: dict[str, Duration] = field(
        default_factory=lambda: {name: Duration() for name in ("success", "fail", "cancel")}
    )
    parts: dict[str, Duration] = field(default_factory=lambda: {name: Duration() for name in PARTS})
    batches: dict[int, Duration] = field(default_factory=dict)


class Counts:
    """The counts of all versions; written from the event loop only."""

    def __init__(self) -> None:
        self._by_version: dict[ModelKey, VersionCounts] = {}

    def of(self, name: str, version: int) -> VersionCounts:
        """Return the counts of a version, zeros where it was never asked."""
        counts = self._by_version.get((name, version))
        if counts is None:
            counts = self._by_version[name, version] = VersionCounts()
        return counts

    def observe(self, trace: Trace, status: int) -> None:
        """Count one request, or one model's part of it, if it asked a model to run."""
        if trace.model is None or not trace.answer_format:
            return
        counts = self.of(trace.model.name, trace.model.version)
        if status >= HTTPStatus.BAD_REQUEST:
            outcome = "cancel" if status == CLIENT_GONE else "fail"
            counts.requests[outcome].add(trace.elapsed_s)
            return
        counts.requests["success"].add(trace.elapsed_s)
        counts.images += trace.images
        counts.last_unix_s = time.time()
        for part, stage in PARTS.items():
            counts.parts[part].add(trace.stages_s.get(stage, 0.0))

    def observe_batch(self, key: ModelKey, images: int, seconds: float) -> None:
        """Count one run."""
        self.of(*key).batches.setdefault(images, Duration()).add(seconds)
