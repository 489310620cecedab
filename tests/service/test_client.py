"""The client against a real service: answers, refusals, and when it asks again."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncClient, Client, ServiceError


def test_it_asks_and_gets_what_curl_gets(
    service: Any, segment: Any, make_pixels: Any, encode_png: Any, tmp_path: Path
) -> None:
    image = encode_png(make_pixels(20, 30))
    (tmp_path / "a.png").write_bytes(image)
    with Client(service.address) as client:
        answer = client.segment(tmp_path / "a.png", model="grey")
        same = client.segment(image, model="grey", version=1, format="json")
        assert client.models()[0]["name"] == "colour"
    expected = segment("grey", image)
    assert answer.content == expected.content
    assert (answer.media_type, answer.model, answer.version) == ("image/png", "grey", 1)
    assert answer.sha256 == expected.headers["x-longskip-sha256"] == same.sha256
    assert same.content == segment("grey", image, format="json").content

    async def ask() -> bytes:
        async with AsyncClient(service.address) as client:
            assert len(await client.models()) > 1
            return (await client.segment(image, model="grey")).content

    assert asyncio.run(ask()) == expected.content


def test_many_images_are_answered_in_order_and_faults_in_their_place(
    service: Any, make_pixels: Any, encode_png: Any
) -> None:
    images = [encode_png(make_pixels(12 + n, 12, seed=n)) for n in range(5)]
    images[3] = b"no image"
    with Client(service.address) as client:
        found = list(client.segment_many(images, model="grey", at_once=2, format="json"))
        for image, answer in zip(images, found, strict=True):
            if isinstance(answer, ServiceError):
                assert (answer.status, answer.kind) == (415, "unsupported-image")
                assert answer.detail
                assert answer.request_id
            else:
                alone = client.segment(image, model="grey", format="json")
                assert (answer.content, answer.media_type) == (alone.content, alone.media_type)
                assert answer.sha256 == alone.sha256
        assert [isinstance(one, ServiceError) for one in found] == [False] * 3 + [True, False]
        assert list(client.segment_many([], model="grey")) == []
        with pytest.raises(ServiceError, match="no model of that name"):
            next(client.segment_many(images, model="nowhere"))
        with pytest.raises(ValueError, match="at_once"):
            next(client.segment_many(images, model="grey", at_once=0))

    async def ask() -> list[bool]:
        async with AsyncClient(service.address) as client:
            answers = client.segment_many(images, model="grey", version=1)
            return [isinstance(one, ServiceError) async for one in answers]

    assert asyncio.run(ask()) == [False] * 3 + [True, False]


def test_a_refusal_says_why(service: Any, make_pixels: Any, encode_png: Any) -> None:
    with Client(service.address) as client:
        for model, options, status, kind in (
            ("nowhere", {}, 404, "model-not-found"),
            ("../v2", {}, 404, "not-found"),
            ("rubbish", {}, 503, "model-not-ready"),
            ("grey", {"format": "bmp"}, 422, "invalid-request"),
        ):
            with pytest.raises(ServiceError) as refused:
                client.segment(encode_png(make_pixels(8, 8)), model=model, **options)
            assert (refused.value.status, refused.value.kind) == (status, kind)
            assert refused.value.detail
            assert refused.value.request_id
        with pytest.raises(FileNotFoundError):
            client.segment("nowhere.png", model="grey")


def test_a_crowd_that_is_turned_away_comes_again(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(200, 200))
    answers: list[bytes] = []
    with start_service(models=models, queue_size=1) as service:

        def ask() -> None:
            with Client(service.address, attempts=30) as client:
                answers.append(client.segment(image, model="grey").content)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(answers) == 6
    assert len(set(answers)) == 1


class _Busy(BaseHTTPRequestHandler):
    asked: list[float] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        if len(self.asked) < 3:
            self.send_response(429)
            self.send_header("Retry-After", "1" if len(self.asked) == 1 else "0")
            self.end_headers()
            return
        body = b'{"models": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_it_waits_as_long_as_it_is_told() -> None:
    _Busy.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            assert client.models() == []
        _Busy.asked.clear()
        with (
            Client(f"http://127.0.0.1:{server.server_port}", attempts=2) as client,
            pytest.raises(ServiceError) as refused,
        ):
            client.models()
        assert refused.value.status == 429
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(_Busy.asked) == 2
    assert _Busy.asked[1] - _Busy.asked[0] >= 1


def test_nobody_there_is_said_after_all_attempts() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", attempts=2) as client:
        with pytest.raises(ServiceError, match="does the service run there") as refused:
            client.models()
        assert refused.value.status == 0
    with pytest.raises(ValueError, match="attempts"):
        Client("http://127.0.0.1", attempts=0)


def test_it_needs_httpx_alone() -> None:
    probe = (
        "import sys; import service.client; "
        "found = {'numpy', 'onnxruntime', 'fastapi', 'torch', 'cv2'} & set(sys.modules); "
        "sys.exit(f'{found}' if found else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
