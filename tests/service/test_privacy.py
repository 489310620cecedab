"""Nothing that a client sends is found again: not in logs, metrics, errors or headers."""

import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest

CANARY = "Doe_Jane_19700101"


def _png_with_text(encoded: bytes) -> bytes:
    """Put the canary into a text chunk, as a scanner's software would a name."""
    payload = b"Author\x00" + CANARY.encode()
    chunk = struct.pack(">I", len(payload)) + b"tEXt" + payload
    chunk += struct.pack(">I", zlib.crc32(b"tEXt" + payload))
    return encoded[:33] + chunk + encoded[33:]


@pytest.mark.slow
def test_the_canary_is_nowhere(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = _png_with_text(encode_png(make_pixels(20, 20)))
    answers: list[httpx.Response] = []
    with (
        start_service(models=models) as service,
        httpx.Client(base_url=service.address, timeout=30) as client,
    ):
        url = "/v1/models/grey/segment"
        named = {"file": (f"{CANARY}.png", image)}
        broken = {"file": (f"{CANARY}.png", image[:200] + CANARY.encode())}
        odd_id = {"X-Longskip-Request-Id": f"{CANARY} <b>"}
        for form in ("png", "overlay", "json", "geojson", "npz", CANARY):
            answers.append(client.post(url, params={"format": form}, files=named))
        answers += [
            client.post(url, files=broken, headers=odd_id),
            client.post(url, params={CANARY: CANARY}, files=named),
            client.post(url, files={CANARY: named["file"]}),
            client.post(url, content=CANARY.encode(), headers={"Content-Type": CANARY}),
            client.post(f"/v1/models/{CANARY}/segment", files=named),
            client.get(f"/v2/models/{CANARY}/ready"),
            client.get(f"/{CANARY}?patient={CANARY}"),
            client.delete(f"/v1/models/{CANARY}"),
            client.get("/metrics"),
            client.get("/v1/models"),
        ]
        assert service.stop() == 0
        log = service.log.read_text()
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    for answer in answers:
        everything = answer.content + repr(answer.headers).encode()
        if answer.request.url.params.get(CANARY) is None:
            assert CANARY.lower().encode() not in everything.lower(), answer.request.url
    assert CANARY.lower() not in log.lower()
    # The log is there, and it knows each request by its id.
    for answer in answers:
        assert answer.headers["x-longskip-request-id"] in log


def test_a_safe_request_id_is_taken_over(client: httpx.Client) -> None:
    for name in ("X-Longskip-Request-Id", "X-Request-Id"):
        answer = client.get("/v2/health/live", headers={name: "a-B_3.4"})
        assert answer.headers["x-longskip-request-id"] == "a-B_3.4"
    for unsafe in ("", "a b", "a" * 65, 'x"y', "ä"):
        headers = {"X-Longskip-Request-Id": unsafe.encode()}
        answer = client.get("/v2/health/live", headers=headers)
        assert answer.headers["x-longskip-request-id"] not in (unsafe, "")


def test_an_unexpected_error_is_500_without_its_text(
    serve_in_thread: Any,
    gated_model: Any,
    make_pixels: Any,
    encode_png: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError(f"could not read {CANARY}")

    monkeypatch.setattr(gated_model, "segment", explode, raising=False)
    with serve_in_thread([("gated", gated_model)]) as address:
        answer = httpx.post(
            f"{address}/v1/models/gated/segment", content=encode_png(make_pixels(9, 9))
        )
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:longskip:problem:internal"
    assert answer.headers["x-longskip-model"] == "gated"
    assert CANARY not in answer.text
    assert CANARY not in caplog.text
    assert "RuntimeError" in caplog.text
    assert answer.json()["request_id"] in caplog.text
