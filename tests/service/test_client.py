"""The client against a real service: answers, refusals, and when it asks again."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

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
        # 2 MB is this service's limit on a body: seven together are too many, one of them alone.
        noise = [images[0] + bytes(600_000)] * 6 + [bytes(2_100_000)]
        many = [
            one.status if isinstance(one, ServiceError) else 200
            for one in client.segment_many(noise, model="grey")
        ]
        assert many == [200] * 6 + [413]
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
    """Answers by a script: a status and its Retry-After, then 200."""

    script: ClassVar[list[tuple[int, str | None]]] = []
    asked: ClassVar[list[float]] = []
    ids: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        self.ids.append(self.headers["X-Longskip-Request-Id"])
        status, retry_after = self.script.pop(0) if self.script else (200, None)
        body = b'{"models": []}'
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def busy() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def asked_by(
    busy: str, script: list[tuple[int, str | None]], **options: Any
) -> tuple[int | None, list[float]]:
    """The status that is raised, None where it ends well, and the waits between the attempts."""
    _Busy.script[:], _Busy.asked[:], _Busy.ids[:] = script, [], []
    status = None
    with Client(busy, **options) as client:
        try:
            assert client.models() == []
        except ServiceError as error:
            status = error.status
    return status, [later - earlier for earlier, later in pairwise(_Busy.asked)]


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_as_long_as_it_is_told(busy: str, status: int) -> None:
    ended, waits_s = asked_by(busy, [(status, "1"), (status, "0")])
    assert ended is None
    assert len(waits_s) == 2
    assert waits_s[0] >= 1


def test_all_attempts_have_one_id_and_each_request_its_own(busy: str) -> None:
    for _ in range(2):
        asked_by(busy, [(429, "0"), (429, "0")])
        first, *others = _Busy.ids
        assert first
        assert others == [first, first]
        asked_by(busy, [])
        assert _Busy.ids != [first]


def test_a_time_of_day_is_waited_for_too(busy: str) -> None:
    before, after = (format_datetime(datetime.now(UTC) + timedelta(seconds=s)) for s in (-9, 2))
    ended, waits_s = asked_by(busy, [(429, before), (429, after)])
    assert ended is None
    assert waits_s[1] > 0.5  # the date has no fractions of a second


@pytest.mark.parametrize(
    ("script", "options", "status", "asked"),
    [
        ([(429, "0")] * 9, {"attempts": 2}, 429, 2),
        ([(429, "30")], {"deadline_s": 29.0}, 429, 1),
        ([(503, None)], {}, 503, 1),  # a model that is out of use
        ([(429, "soon")], {}, 429, 1),
        ([(504, "0")], {}, 504, 1),  # it would take too long again
    ],
)
def test_it_gives_up_where_asking_again_does_not_help(
    busy: str,
    script: list[tuple[int, str | None]],
    options: dict[str, Any],
    status: int,
    asked: int,
) -> None:
    ended, waits_s = asked_by(busy, script, **options)
    assert (ended, len(waits_s) + 1) == (status, asked)


def test_models_are_compared(service: Any, make_pixels: Any, encode_png: Any) -> None:
    image = encode_png(make_pixels(30, 20, 3))
    with Client(service.address) as client:
        found = client.compare(image, models=["colour@1", "colour@2"])
        with pytest.raises(ServiceError) as refused:
            client.compare(image, models=["colour"])
        assert refused.value.status == 422

    async def ask() -> Any:
        async with AsyncClient(service.address) as client:
            return await client.compare(image, models=["colour@1", "colour@2"])

    assert [one["version"] for one in found["models"]] == [1, 2]
    assert asyncio.run(ask())["pairs"] == found["pairs"]
    assert found["pairs"][0]["equal_share"] < 1


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
