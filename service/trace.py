"""What is known of one request while it is worked on: its id, its model, its stages' times."""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

ModelKey = tuple[str, int]
"""Name and version."""
SCOPE_KEY = "longskip.trace"
# Ids from outside stand in headers and logs, so nothing else than this is taken over.
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STAGES = ("admit", "decode", "queue", "run", "encode")


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered, as the headers say it."""

    name: str
    version: int
    sha256: str
    provider: str
    precision: str


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
        caller: name of the key that came with it, or empty.
        refused_for: why the request was turned away, a slug, or empty.
    """

    request_id: str
    started_s: float = field(default_factory=time.monotonic)
    stages_s: dict[str, float] = field(default_factory=dict)
    model: ModelIdentity | None = None
    answer_format: str = ""
    images: int = 1
    skip_gain: str = ""
    tiled: bool = False
    caller: str = ""
    refused_for: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began_s)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.stages_s[name] = self.stages_s.get(name, 0.0) + seconds

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.started_s

    def headers(self) -> dict[str, str]:
        """Return the headers that every answer carries."""
        headers = {"X-Longskip-Request-Id": self.request_id}
        if self.model is not None:
            headers |= {
                "X-Longskip-Model": self.model.name,
                "X-Longskip-Version": str(self.model.version),
                "X-Longskip-Sha256": self.model.sha256,
                "X-Longskip-Provider": self.model.provider,
                "X-Longskip-Precision": self.model.precision,
            }
        if self.skip_gain:
            headers["X-Longskip-Skip-Gain"] = self.skip_gain
        if self.tiled:
            headers["X-Longskip-Tiled"] = "true"
        stages = [*self.stages_s.items(), ("total", self.elapsed_s)]
        headers["Server-Timing"] = ", ".join(f"{n};dur={s * 1e3:.1f}" for n, s in stages)
        return headers


def begin_trace(request_headers: Mapping[str, str]) -> Trace:
    """Start a trace, with the client's own request id where that is safe to repeat."""
    for name in ("x-longskip-request-id", "x-request-id"):
        offered = request_headers.get(name, "")
        if SAFE_REQUEST_ID.fullmatch(offered):
            return Trace(request_id=offered)
    return Trace(request_id=secrets.token_hex(8))
