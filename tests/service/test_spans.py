"""Traces as a collector gets them: a real receiver on loopback, a real service that exports."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["admit", "decode", "queue", "run", "encode"]


def attributes_of(span: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


@pytest.fixture(scope="module")
def collector(start_collector: Any) -> Iterator[Any]:
    with start_collector() as started:
        yield started


@pytest.fixture(scope="module")
def traced(
    start_service: Any, models: Path, collector: Any, make_pixels: Any, encode_png: Any
) -> dict[str, Any]:
    """What a service answered, logged and exported before it ended, by what was asked."""
    image = {"file": ("Doe.png", encode_png(make_pixels(200, 140)))}
    sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=Doe"}
    plain = {"Accept-Encoding": "identity"}
    tensors = {
        "inputs": [
            {
                "name": "image",
                "datatype": "FP32",
                "shape": [3, 1, 4, 4],
                "data": list(range(48)),
            }
        ]
    }
    with (
        start_service(models=models, traces=collector.address) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
    ):
        url = "/v1/models/grey/segment"
        answers = {
            "sampled": client.post(url, files=image, headers=sampled),
            "alone": client.post(url, files=image),
            "unsampled": client.post(
                url, files=image, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}
            ),
            "invalid": client.post(url, files=image, headers={"traceparent": f"00-{TRACE}-01"}),
            "refused": client.post("/v1/models/five/segment", files=image),
            "lost": client.get("/Doe?name=Doe"),
            "tensors": client.post("/v2/models/grey/infer", json=tensors, headers=plain),
        }
        assert service.stop() == 0
        written = [
            line for line in service.log.read_text().splitlines() if "longskip.access" in line
        ]
    lines = [json.loads(line) for line in written]
    log = {line["request_id"]: line for line in lines}
    spans = {span.span_id.hex(): span for span in collector.spans}
    return {"answers": answers, "log": log, "spans": spans}


def _place(traced: dict[str, Any], name: str) -> tuple[str, str, str]:
    version, trace_id, span_id, flags = traced["answers"][name].headers["traceresponse"].split("-")
    assert version == "00"
    return trace_id, span_id, flags


def _line(traced: dict[str, Any], name: str) -> dict[str, Any]:
    line: dict[str, Any] = traced["log"][traced["answers"][name].headers["x-longskip-request-id"]]
    return line


def test_each_recorded_request_is_a_span_with_one_per_stage(traced: dict[str, Any]) -> None:
    for name in ("sampled", "alone", "invalid"):
        trace_id, span_id, flags = _place(traced, name)
        assert flags == "01"
        span = traced["spans"][span_id]
        assert span.trace_id.hex() == trace_id == _line(traced, name)["trace_id"]
        assert span.kind == Span.SPAN_KIND_SERVER
        assert span.name == "POST /v1/models/{model}/segment"
        below = [one for one in traced["spans"].values() if one.parent_span_id == span.span_id]
        assert [one.name for one in sorted(below, key=lambda s: s.start_time_unix_nano)] == STAGES
        assert {one.trace_id for one in below} == {span.trace_id}
        assert all(one.start_time_unix_nano <= one.end_time_unix_nano for one in below)
        assert attributes_of(span) == {
            "url.scheme": "http",
            "http.request.method": "POST",
            "http.route": "/v1/models/{model}/segment",
            "http.response.status_code": 200,
            "longskip.format": "png",
            "longskip.model": "grey",
            "longskip.version": 1,
            "longskip.provider": "CPUExecutionProvider",
            "longskip.precision": "fp32",
            "longskip.images": 1,
        }


def test_a_clients_trace_is_gone_on_with_and_another_begun(traced: dict[str, Any]) -> None:
    trace_id, span_id, _ = _place(traced, "sampled")
    assert trace_id == TRACE
    assert traced["spans"][span_id].parent_span_id.hex() == PARENT
    for name in ("alone", "invalid"):
        trace_id, span_id, _ = _place(traced, name)
        assert trace_id != TRACE
        assert traced["spans"][span_id].parent_span_id == b""


def test_what_a_client_does_not_record_is_not_exported(traced: dict[str, Any]) -> None:
    trace_id, span_id, flags = _place(traced, "unsampled")
    assert (trace_id, flags) == (TRACE, "00")
    assert span_id not in traced["spans"]
    assert _line(traced, "unsampled")["trace_id"] == TRACE


def test_refusals_name_their_reason_and_no_path(traced: dict[str, Any]) -> None:
    _, span_id, _ = _place(traced, "refused")
    attributes = attributes_of(traced["spans"][span_id])
    assert attributes["http.response.status_code"] == 422
    assert attributes["error.type"] == "channel-mismatch"
    _, span_id, _ = _place(traced, "lost")
    assert traced["spans"][span_id].name == "GET"
    assert attributes_of(traced["spans"][span_id]) == {
        "url.scheme": "http",
        "http.request.method": "GET",
        "http.response.status_code": 404,
        "error.type": "not-found",
    }


def test_each_image_of_a_batch_has_its_own_wait_and_run(traced: dict[str, Any]) -> None:
    _, span_id, _ = _place(traced, "tensors")
    below = [s.name for s in traced["spans"].values() if s.parent_span_id.hex() == span_id]
    assert sorted(below) == sorted(["admit", "decode", *["queue", "run"] * 3, "encode"])
    assert set(_line(traced, "tensors")["stages_ms"]) <= set(STAGES)


def test_the_resource_is_the_service_and_nothing_is_told_of_the_machine(
    traced: dict[str, Any], collector: Any
) -> None:
    for request in collector.requests:
        (resource,) = request.resource_spans
        names = attributes_of(resource.resource)
        assert names["service.name"] == "longskip"
        assert not [name for name in names if name.startswith(("host.", "process.", "os."))]
    assert b"Doe" not in b"".join(collector.bodies)


def test_without_a_collector_the_trace_id_is_told_and_nothing_loaded(
    client: httpx.Client, service: Any
) -> None:
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = client.get("/v2/health/live", headers=sent)
    client.get("/v2/health/live")  # the first one's line is written before this one's answer
    version, trace_id, span_id, flags = answer.headers["traceresponse"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "00")
    assert span_id != PARENT
    assert f'"trace_id": "{TRACE}", "span_id": "{span_id}"' in service.log.read_text()
    assert "traceresponse" not in client.get("/v2/health/live").headers
    assert (
        "traceresponse" not in client.get("/v2/health/live", headers={"traceparent": "x"}).headers
    )
    code = (
        "import sys; from service.app import create_app; create_app(); "
        "print([name for name in sys.modules if 'opentelemetry.sdk' in name or 'otlp' in name])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n", ran.stderr


def test_a_collector_that_never_answers_holds_nothing_up(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(8, 8))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        traces = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            start_service(models=models, traces=traces) as service,
            httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
        ):
            for _ in range(20):
                assert client.post("/v1/models/grey/segment", content=image).status_code == 200
            # Within the time that the fixture gives it.
            assert service.stop() == 0
            assert "Traceback" not in service.log.read_text()
