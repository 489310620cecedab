"""The header ``traceparent`` by the letter of W3C Trace Context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.trace import begin_trace
from service.traceparent import TraceParent, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
hex_digits = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda t: int(t, 16) > 0)


@pytest.mark.parametrize(
    ("written", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # the second bit: a random trace id
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"01-{TRACE}-{SPAN}-01", True),
    ],
)
def test_what_is_valid_is_read(written: str, sampled: bool) -> None:
    assert read_traceparent([written.encode()]) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "written",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-0155",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00_{TRACE}_{SPAN}_01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}é-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_not_is_as_if_it_had_not_come(written: str) -> None:
    assert read_traceparent([written.encode()]) is None
    assert begin_trace([(b"traceparent", written.encode())]).place is None


def test_two_are_none() -> None:
    one = f"00-{TRACE}-{SPAN}-01".encode()
    assert read_traceparent([one, one]) is None
    assert read_traceparent([]) is None


@given(trace_id=hex_digits, span_id=hex_digits.map(lambda t: "1" + t[:15]), sampled=st.booleans())
def test_what_is_written_is_read_again(trace_id: str, span_id: str, sampled: bool) -> None:
    place = TraceParent(trace_id, span_id, sampled)
    assert read_traceparent([str(place).encode()]) == place
    child = place.child()
    assert read_traceparent([str(child).encode()]) == child
    assert (child.trace_id, child.sampled) == (trace_id, False)
    assert child.span_id != span_id


@given(st.binary(max_size=80))
def test_anything_else_is_refused_without_an_error(written: bytes) -> None:
    read = read_traceparent([written])
    assert read is None or written.decode().startswith(("00-", *(f"{v:02x}-" for v in range(255))))
