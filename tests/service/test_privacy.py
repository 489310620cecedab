"""Nothing that a client sends is found again: not in logs, metrics, errors or headers."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import tifffile
from PIL import Image

CANARY = "Doe_Jane_19700101"


def _png_with_text(encoded: bytes) -> bytes:
    """Put the canary into a text chunk, as a scanner's software would a name."""
    payload = b"Author\x00" + CANARY.encode()
    chunk = struct.pack(">I", len(payload)) + b"tEXt" + payload
    chunk += struct.pack(">I", zlib.crc32(b"tEXt" + payload))
    return encoded[:33] + chunk + encoded[33:]


def _tagged(pixels_hwc: Any, folder: Path) -> list[bytes]:
    """The same image as a PNG, a JPEG and a TIFF whose tags hold the canary."""
    image = Image.fromarray(pixels_hwc[:, :, 0])
    exif = Image.Exif()
    for tag in (0x010E, 0x013B, 0x9C9F):  # description, artist, the subject that Windows writes
        exif[tag] = CANARY
    image.save(folder / "tagged.jpg", exif=exif, comment=CANARY)
    private = [(65000, "s", 0, CANARY, True)]
    tifffile.imwrite(
        folder / "tagged.tif", pixels_hwc[:, :, 0], description=CANARY, extratags=private
    )
    image.save(folder / "plain.png")
    png = _png_with_text((folder / "plain.png").read_bytes())
    return [png, (folder / "tagged.jpg").read_bytes(), (folder / "tagged.tif").read_bytes()]


HEADERS = {
    "User-Agent": CANARY,
    "Referer": f"http://{CANARY}/",
    "X-Forwarded-For": CANARY,
    "Cookie": f"patient={CANARY}",
    "Authorization": f"Bearer {CANARY}",
    "X-Longskip-Request-Id": f"{CANARY} <b>",
    "traceparent": f"00-{CANARY}-01",
    "tracestate": f"vendor={CANARY}",
    "baggage": f"patient={CANARY}",
    f"X-{CANARY}": CANARY,
}
LISTED = {"traceparent": f"00-{'4b' * 16}-{'0f' * 8}-01", "tracestate": f"vendor={CANARY}"}


ZIP = {"Content-Type": "application/zip"}


def _zip_of(images: list[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{CANARY}/{CANARY}-{number}.png", image)
    return packed.getvalue()


def _tensors(**changed: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1, 2, 3, 4]}
    return {"inputs": [tensor | {"parameters": {CANARY: CANARY}}], **changed}


def _ask_everything(client: httpx.Client, images: list[bytes]) -> list[httpx.Response]:
    """The canary in every place that a request has; the first answers are good ones."""
    url = "/v1/models/grey/segment"
    named = {"file": (f"{CANARY}.png", images[0], f"image/{CANARY}")}
    broken = {"file": (f"{CANARY}.png", images[0][:200] + CANARY.encode())}
    answers = [
        client.post(url, params={"format": form}, files={"file": (CANARY, image)}, headers=LISTED)
        for form in ("png", "overlay", "json", "geojson", "npz")
        for image in images
    ]
    wrong_tensor = {"name": CANARY, "datatype": CANARY, "shape": [1], "data": [CANARY]}
    answers += [
        client.post("/v2/models/grey/infer", json=_tensors(parameters={CANARY: CANARY})),
        client.post(f"{url}-many", files=[("file", (CANARY, image)) for image in images]),
        client.post(f"{url}-many", content=_zip_of(images), headers=ZIP | LISTED),
        client.post("/v1/compare", params={"models": "grey,grey@1"}, files=named),
        client.post("/v1/compare", params={"models": f"grey,{CANARY}"}, files=named),
        client.post("/v1/compare", params={"models": f"grey,grey@{CANARY}"}, files=named),
        client.post(f"{url}-many", files=[("file", (CANARY, CANARY.encode()))] * 2),
        client.post(f"{url}-many", content=CANARY.encode(), headers=ZIP),
        client.post(url, files=named, params={"format": CANARY}),
        client.post(url, files=named, headers=HEADERS),
        client.post(url, files=named, data={CANARY: CANARY}),
        client.post(url, files=broken, headers=HEADERS),
        client.post(url, files=named, params={"opacity": CANARY, "skip_gain": CANARY}),
        client.post(url, files={CANARY: named["file"]}),
        client.post(url, content=CANARY.encode(), headers={"Content-Type": CANARY}),
        client.post(url, content=images[0], headers={"Accept": f"image/{CANARY}"}),
        client.post(f"/v1/models/{CANARY}/segment", files=named),
        client.post(f"/v1/models/grey/versions/{CANARY}/segment", files=named),
        client.post("/v2/models/grey/infer", json={"inputs": [wrong_tensor], "id": CANARY}),
        client.post("/v2/models/grey/infer", json=_tensors(outputs=[{"name": CANARY}])),
        client.post("/v2/models/grey/infer", json=_tensors(id=[CANARY])),
        client.post("/v2/models/grey/infer", content=CANARY.encode()),
        client.post(f"/v2/models/{CANARY}/infer", json=_tensors()),
        client.post(f"/v2/models/grey/versions/{CANARY}/infer", json=_tensors()),
        client.post(f"/v2/repository/models/{CANARY}/load", json={"parameters": {"x": CANARY}}),
        client.post("/v2/repository/index", content=CANARY.encode()),
        client.get(f"/v2/models/{CANARY}/ready"),
        client.get(f"/{CANARY}?patient={CANARY}"),
        client.get(f"/page/samples/{CANARY}.png"),
        client.delete(f"/v1/models/{CANARY}"),
        client.get("/metrics"),
        client.get("/v1/models"),
    ]
    return answers


@pytest.mark.slow
def test_the_canary_is_nowhere(
    start_service: Any,
    start_collector: Any,
    models: Path,
    make_pixels: Any,
    tmp_path: Path,
) -> None:
    images = _tagged(make_pixels(20, 20), tmp_path)
    assert all(CANARY.encode() in image for image in images)
    with (
        start_collector() as collector,
        start_service(models=models, traces=collector.address) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
    ):
        answers = _ask_everything(client, images)
        # An unknown option and an id are told back to whoever sent them, and to nobody else.
        back = [
            client.post("/v1/models/grey/segment", params={CANARY: CANARY}, content=images[0]),
            client.post("/v2/models/grey/infer", json=_tensors(id=CANARY)),
        ]
        assert [CANARY in answer.text for answer in back] == [True, True]
        assert service.stop() == 0
        log = service.log.read_text()
        spans = list(collector.spans)
    good = 3 * 5 + 4
    assert [answer.status_code for answer in answers[:good]] == [200] * good
    failed = [answer for answer in answers if answer.status_code >= 400]
    assert len(failed) > 15
    assert not [answer for answer in failed if answer.status_code >= 500]
    for answer in answers:
        everything = answer.content + repr(answer.headers).encode()
        assert CANARY.lower().encode() not in everything.lower(), answer.request.url
    assert CANARY.lower() not in log.lower()
    assert CANARY.lower().encode() not in b"".join(collector.bodies).lower()
    # Log and traces are there, and they know each request.
    for answer in (*answers, *back):
        assert answer.headers["x-longskip-request-id"] in log
        span_id = answer.headers["traceresponse"].split("-")[2]
        assert span_id in log
        assert span_id in {span.span_id.hex() for span in spans}


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
