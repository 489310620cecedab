"""The header ``traceparent``: which trace of its own a client's request belongs to.

W3C Trace Context, https://www.w3.org/TR/trace-context-2/. ``tracestate`` is for those who ask
other services in turn, which this one does not; it holds whatever a vendor put there, so it is not
even read.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

# Later versions may add fields behind these; version ff is forbidden.
FORM = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 0x01


@dataclass(frozen=True)
class TraceParent:
    """One operation in a trace.

    Attributes:
        trace_id: 32 hex digits, not all zero.
        span_id: 16 hex digits, not all zero.
        sampled: whether it is recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{SAMPLED if self.sampled else 0:02x}"

    def child(self) -> "TraceParent":
        """Return an operation that this one caused, recorded nowhere."""
        return TraceParent(self.trace_id, secrets.token_hex(8), sampled=False)


def read_traceparent(values: Sequence[bytes]) -> TraceParent | None:
    """Return what the values of the header say; None where there is not exactly one valid one."""
    if len(values) != 1:
        return None
    found = FORM.fullmatch(values[0].decode("latin-1"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if (version == "00" and more is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & SAMPLED))
