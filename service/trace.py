"""What is known of one request while it is worked on: its id, its model, its stages' times."""

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from service.traceparent import TraceParent, read_traceparent

ModelKey = tuple[str, int]
"""Name and version."""
RawHeader = tuple[bytes, bytes]
"""Name in lower case, and value."""
SCOPE_KEY = "longskip.trace"
# Ids from outside stand in headers and logs, so nothing else than this is taken over.
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST_ID_HEADERS = (b"x-longskip-request-id", b"x-request-id")
TRACE_HEADERS = frozenset((*REQUEST_ID_HEADERS, b"traceparent"))
STAGES = ("admit", "decode", "queue", "run", "encode")


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered, as the headers say it."""

    name: str
    version: int
    sha256: str
    provider: str
    precision: str

    @cached_property
    def headers(self) -> tuple[RawHeader, ...]:
        """What every answer of it carries, as ASGI has headers."""
        return (
            (b"x-longskip-model", self.name.encode()),
            (b"x-longskip-version", str(self.version).encode()),
            (b"x-longskip-sha256", self.sha256.encode()),
            (b"x-longskip-provider", self.provider.encode()),
            (b"x-longskip-precision", self.precision.encode()),
        )


@dataclass
class Trace:
    """Collects what headers, access log and metrics say of one request.

    Attributes:
        request_id: from the client where it is safe to repeat, else made here.
        started_s: ``time.monotonic()`` when the request came.
        stages_s: seconds per stage of data's way.
        model: set as soon as it is known.
        answer_format: ``png``, ``json``, …, or empty.
        images: that the request brought.
        skip_gain: of the answer, as the request's option takes it; empty where there is no dial.
        tiled: whether the answer was put together from tiles.
        cache: ``hit`` or ``miss`` where answers are kept, or empty.
        caller: name of the key that came with it, or empty.
        refused_for: why the request was turned away, a slug, or empty.
        refused_parts: the same of those of its images that were turned away.
        parent: the operation of the client's own trace that asked, where it told one.
        place: this request in that trace, or in one of ours; None where there is none.
        span: what ``service.spans`` keeps of it, where it is recorded.
        timeline: then also each stage with its begin and end, by ``time.monotonic()``.
    """

    request_id: str
    started_s: float = field(default_factory=time.monotonic)
    stages_s: dict[str, float] = field(default_factory=dict)
    model: ModelIdentity | None = None
    answer_format: str = ""
    images: int = 1
    skip_gain: str = ""
    tiled: bool = False
    cache: str = ""
    caller: str = ""
    refused_for: str = ""
    refused_parts: list[str] = field(default_factory=list)
    parent: TraceParent | None = None
    place: TraceParent | None = None
    span: Any = None
    timeline: list[tuple[str, float, float]] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add(name, began_s, time.monotonic())

    def add(self, name: str, began_s: float, ended_s: float) -> None:
        """Add a time to a stage, from when to when by ``time.monotonic()``."""
        self.stages_s[name] = self.stages_s.get(name, 0.0) + ended_s - began_s
        if self.timeline is not None:
            self.timeline.append((name, began_s, ended_s))

    def parts(self, count: int) -> list["Trace"]:
        """Return traces for images that go their way side by side."""
        return [Trace(self.request_id, timeline=self.timeline) for _ in range(count)]

    def join(self, parts: list["Trace"]) -> None:
        """Take over how long each stage took the slowest of the parts, and what holds of any."""
        self.tiled |= any(part.tiled for part in parts)
        self.refused_parts += [part.refused_for for part in parts if part.refused_for]
        self.images = len(parts) - len(self.refused_parts)
        for name in dict.fromkeys(name for part in parts for name in part.stages_s):
            longest_s = max(part.stages_s.get(name, 0.0) for part in parts)
            self.stages_s[name] = self.stages_s.get(name, 0.0) + longest_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.started_s

    def headers(self) -> list[RawHeader]:
        """Return the headers that every answer carries, as ASGI has them."""
        headers = [(b"x-longskip-request-id", self.request_id.encode())]
        if self.model is not None:
            headers += self.model.headers
        if self.skip_gain:
            headers.append((b"x-longskip-skip-gain", self.skip_gain.encode()))
        if self.tiled:
            headers.append((b"x-longskip-tiled", b"true"))
        if self.cache:
            headers.append((b"x-longskip-cache", self.cache.encode()))
        if self.place is not None:
            headers.append((b"traceresponse", str(self.place).encode()))
        stages = [*self.stages_s.items(), ("total", self.elapsed_s)]
        timing = ", ".join([f"{name};dur={1e3 * seconds:.1f}" for name, seconds in stages])
        headers.append((b"server-timing", timing.encode()))
        return headers


def begin_trace(request_headers: Iterable[tuple[bytes, bytes]]) -> Trace:
    """Start a trace, with the client's own request id where that is safe to repeat.

    Args:
        request_headers: as ASGI has them, names in lower case.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in request_headers:
        if name in TRACE_HEADERS:
            found.setdefault(name, []).append(value)
    trace = Trace(request_id=_request_id(found))
    if b"traceparent" in found:
        trace.parent = read_traceparent(found[b"traceparent"])
        trace.place = trace.parent.child() if trace.parent is not None else None
    return trace


def _request_id(found: dict[bytes, list[bytes]]) -> str:
    for name in REQUEST_ID_HEADERS:
        offered = found[name][0].decode("latin-1") if name in found else ""
        if SAFE_REQUEST_ID.fullmatch(offered):
            return offered
    return secrets.token_hex(8)
