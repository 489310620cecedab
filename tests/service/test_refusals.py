"""What does not fit is told so, in a problem document, before it costs anything."""

import struct
import time
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest


def _assert_problem(answer: httpx.Response, status: int, slug: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["type"] == f"urn:longskip:problem:{slug}"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-longskip-request-id"]
    return str(problem["detail"])


@pytest.fixture
def image(encode_png: Any, make_pixels: Any) -> bytes:
    encoded: bytes = encode_png(make_pixels(20, 24))
    return encoded


def test_unknown_model_lists_those_that_there_are(segment: Any, image: bytes) -> None:
    detail = _assert_problem(segment("nowhere", image), 404, "model-not-found")
    assert "grey" in detail
    assert "nowhere" not in detail


def test_unknown_version_lists_those_that_there_are(client: httpx.Client, image: bytes) -> None:
    answer = client.post("/v1/models/colour/versions/9/segment", content=image)
    assert "1, 2, 3" in _assert_problem(answer, 404, "model-not-found")


@pytest.mark.parametrize("version", ["-1", "One", "1.0", "1e0", "٣", "a" * 40])
def test_a_version_is_a_number_or_a_name(client: httpx.Client, image: bytes, version: str) -> None:
    answer = client.post(f"/v1/models/colour/versions/{version}/segment", content=image)
    _assert_problem(answer, 404, "not-found")


@pytest.mark.parametrize("version", ["0", "stable"])
def test_there_is_no_such_version(client: httpx.Client, image: bytes, version: str) -> None:
    answer = client.post(f"/v1/models/colour/versions/{version}/segment", content=image)
    _assert_problem(answer, 404, "model-not-found")


def test_a_failed_model_is_503_with_the_reason(client: httpx.Client, image: bytes) -> None:
    answer = client.post("/v1/models/colour/versions/3/segment", content=image)
    assert "golden" in _assert_problem(answer, 503, "model-not-ready")
    answer = client.post("/v1/models/foreign/segment", content=image)
    assert "adopt" in _assert_problem(answer, 503, "model-not-ready")


@pytest.mark.parametrize(
    "query",
    [
        {"format": "bmp"},
        {"orientation": "sideways"},
        {"format": "overlay", "opacity": "1.5"},
        {"opacity": "nan"},
        {"fromat": "json"},
    ],
)
def test_wrong_options_are_422(segment: Any, image: bytes, query: dict[str, str]) -> None:
    detail = _assert_problem(segment("grey", image, **query), 422, "invalid-request")
    assert next(iter(query)) in detail or "opacity" in detail


def test_a_form_without_the_file_is_422(client: httpx.Client, image: bytes) -> None:
    url = "/v1/models/grey/segment"
    for form in ({"files": {"picture": ("x", image)}}, {"files": {"file": (None, b"text")}}):
        assert "file" in _assert_problem(client.post(url, **form), 422, "invalid-request")


def test_an_empty_body_is_422(client: httpx.Client) -> None:
    url = "/v1/models/grey/segment"
    _assert_problem(client.post(url), 422, "invalid-request")
    _assert_problem(client.post(url, files={"file": ("x", b"")}), 422, "invalid-request")


def test_two_files_or_torn_multipart_are_400(client: httpx.Client, image: bytes) -> None:
    url = "/v1/models/grey/segment"
    two = client.post(url, files=[("file", ("a", image)), ("file", ("b", image))])
    _assert_problem(two, 400, "malformed-body")
    headers = {"Content-Type": "multipart/form-data"}
    _assert_problem(client.post(url, content=image, headers=headers), 400, "malformed-body")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    _assert_problem(client.post(url, content=image, headers=headers), 400, "malformed-body")


def test_multipart_that_was_cut_off_is_400(client: httpx.Client, image: bytes) -> None:
    whole = client.build_request("POST", "/v1/models/grey/segment", files={"file": ("x", image)})
    body, headers = whole.read(), {"Content-Type": whole.headers["content-type"]}
    for cut in (body[:-4], body[: len(body) // 2], body[:60], b""):
        answer = client.post(whole.url, content=cut, headers=headers)
        assert "closing boundary" in _assert_problem(answer, 400, "malformed-body")
    assert client.post(whole.url, content=body + b"epilogue", headers=headers).is_success
    assert client.post(whole.url, content=body.rstrip(), headers=headers).is_success


def test_an_unknown_option_is_told_with_those_that_there_are(segment: Any, image: bytes) -> None:
    detail = _assert_problem(segment("grey", image, fromat="json"), 422, "invalid-request")
    assert "fromat" in detail
    assert "format, orientation, opacity" in detail


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json"},
        {"Content-Type": "image/png", "Content-Encoding": "gzip"},
    ],
)
def test_other_media_types_are_415(
    client: httpx.Client, image: bytes, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/models/grey/segment", content=image, headers=headers)
    _assert_problem(answer, 415, "unsupported-media-type")


def test_an_upgrade_whose_body_is_lost_is_told(client: httpx.Client, image: bytes) -> None:
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
    answer = client.post("/v1/models/grey/segment", content=image, headers=headers)
    assert "HTTP/1.1" in _assert_problem(answer, 422, "invalid-request")
    # On a connection of its own: what is left of the lost body spoils the first one.
    alone = httpx.get(client.base_url.join("/v1/models"), headers=headers, timeout=30)
    assert alone.status_code == 200


def test_accept_decides_where_format_does_not(client: httpx.Client, image: bytes) -> None:
    url = "/v1/models/grey/segment"
    for accept, media_type in [
        ("application/json", "application/json"),
        ("text/html, application/geo+json;q=0.5", "application/geo+json"),
        ("*/*", "image/png"),
    ]:
        answer = client.post(url, content=image, headers={"Accept": accept})
        assert answer.headers["content-type"] == media_type
    refused = client.post(url, content=image, headers={"Accept": "text/html"})
    _assert_problem(refused, 406, "not-acceptable")
    both = client.post(f"{url}?format=json", content=image, headers={"Accept": "text/html"})
    assert both.headers["content-type"] == "application/json"


def test_channels_that_do_not_fit_are_422(segment: Any, image: bytes) -> None:
    assert "5" in _assert_problem(segment("five", image), 422, "channel-mismatch")


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    _assert_problem(client.get("/v1/nothing"), 404, "not-found")
    wrong_method = client.get("/v1/models/grey/segment")
    _assert_problem(wrong_method, 405, "method-not-allowed")
    assert wrong_method.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/page/page.css", "/v1/models", "/v1/models/grey", "/v2/health/live", "/metrics"]
)
def test_head_answers_as_get_does_but_without_the_body(client: httpx.Client, path: str) -> None:
    head, got = client.head(path), client.get(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # it counts the first of the two
        assert head.headers["content-length"] == str(len(got.content))
    assert client.get(path).status_code == 200  # the connection is still in step


def test_head_where_only_post_is_is_405(client: httpx.Client) -> None:
    answer = client.head("/v1/models/grey/segment")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def _png_header_only(width: int, height: int) -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        return (
            struct.pack(">I", len(payload))
            + kind
            + payload
            + struct.pack(">I", zlib.crc32(kind + payload))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_pixels_are_counted_in_the_header(segment: Any, service: Any) -> None:
    before_mb = service.peak_memory_mb
    answer = segment("grey", _png_header_only(13_000, 13_000))
    assert "169,000,000" in _assert_problem(answer, 413, "image-too-large")
    assert service.peak_memory_mb < before_mb + 50


def test_a_body_past_the_limit_is_413_whether_announced_or_not(
    client: httpx.Client, segment: Any, image: bytes
) -> None:
    url = "/v1/models/grey/segment"
    too_much = bytes(2_000_001)
    _assert_problem(client.post(url, content=too_much), 413, "body-too-large")
    _assert_problem(segment("grey", too_much), 413, "body-too-large")
    chunked = client.post(url, content=(bytes(100_000) for _ in range(21)))
    assert "content-length" not in chunked.request.headers
    _assert_problem(chunked, 413, "body-too-large")
    # The limit itself still passes the gate; that it is no image is told later.
    at_limit = client.post(url, content=bytes(2_000_000))
    _assert_problem(at_limit, 415, "unsupported-image")


def test_uploads_leave_nothing_in_the_temporary_folder(
    start_service: Any, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    noise = np.random.default_rng(0).bytes(3_000_000)
    with start_service(models=models) as service:
        url = f"{service.address}/v1/models/grey/segment"
        for _ in range(3):
            assert httpx.post(url, content=noise, timeout=30).status_code == 415
            assert httpx.post(url, files={"file": noise}, timeout=30).status_code == 415
        with pytest.raises(httpx.TimeoutException):
            httpx.post(url, content=_forever(noise), timeout=httpx.Timeout(1.0))
        service.process.kill()
        service.process.wait()
    assert list(tmp_path.iterdir()) == []


def _forever(noise: bytes) -> Any:
    yield noise
    time.sleep(1.5)
    raise httpx.WriteTimeout("the client goes in the middle of the body")


def test_a_version_of_thousands_of_digits_is_not_an_internal_error(
    client: httpx.Client, image: bytes
) -> None:
    digits = "9" * 5000
    for answer in (
        client.post(f"/v1/models/colour/versions/{digits}/segment", content=image),
        client.get(f"/v1/models/colour/versions/{digits}"),
    ):
        _assert_problem(answer, 404, "not-found")
    assert client.get(f"/v2/models/colour/versions/{digits}/ready").status_code == 404
