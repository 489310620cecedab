"""What fails around the service, or means it harm: one answer at most is lost, the rest go on."""

import http.client
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model, Segmentation

WITHIN_S = 20.0
HALF_OPEN = 300


class DiesOnce:
    """A real model whose first run ends its thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._died = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def segment(self, image_chw: Any, **options: Any) -> Segmentation:
        if not self._died:
            self._died = True
            raise SystemExit(1)
        return self._model.segment(image_chw, **options)


def test_a_thread_that_dies_costs_one_answer(
    serve_in_thread: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    model = DiesOnce(Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1))
    image = encode_png(make_pixels(9, 9))
    with serve_in_thread([("dying", model)]) as address:
        url = f"{address}/v1/models/dying/segment"
        statuses = [httpx.post(url, content=image, timeout=30).status_code for _ in range(3)]
        metrics = httpx.get(f"{address}/metrics").text
    assert statuses == [500, 200, 200]
    assert "longskip_decoded_pixels 0.0" in metrics
    assert 'longskip_requests_under_way{model="dying",version="1"} 0.0' in metrics


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only")
def test_a_disk_that_takes_no_more_is_told_and_passes(
    service: Any, segment: Any, encode_png: Any
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 1), np.uint8)
    image = encode_png(noise)
    assert 1_000_000 < len(image) < 2_000_000  # it is spooled, and no larger than a body may be
    with limited(service.process.pid, resource.RLIMIT_FSIZE, 500_000):
        refused = segment("tiled", image)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["detail"].startswith("uploads under way")
    assert segment("tiled", image).status_code == 200


@contextmanager
def uploads_under_way(address: str, count: int) -> Iterator[list[socket.socket]]:
    """Connect so often and send the beginning of an upload on each."""
    url = httpx.URL(address)
    head = (
        "POST /v1/models/grey/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        "Content-Length: 100000\r\n\r\n"
    )
    with ExitStack() as held:
        opened = []
        for _ in range(count):
            connection = socket.create_connection((url.host, url.port or 80), timeout=WITHIN_S)
            opened.append(held.enter_context(connection))
            connection.sendall(head.encode() + b"\x89PNG")
        yield opened


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_uploads_that_stay_half_open_harm_nobody_and_leave_nothing(
    service: Any, client: httpx.Client, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(9, 9))
    expected = segment("grey", image).content
    files = open_files(service.process.pid)
    with uploads_under_way(service.address, HALF_OPEN):
        while open_files(service.process.pid) < files + HALF_OPEN:
            time.sleep(0.01)
        assert client.get("/v2/health/ready").status_code == 200
        # They hold no place in the queue: a body that is not there asks for nothing yet.
        assert segment("grey", image).content == expected
    until_s = time.monotonic() + WITHIN_S
    while open_files(service.process.pid) > files + 2 and time.monotonic() < until_s:
        time.sleep(0.01)
    assert open_files(service.process.pid) <= files + 2


def test_clients_that_read_nothing_hold_no_thread(
    service: Any, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    large, small = encode_png(make_pixels(1000, 1000)), encode_png(make_pixels(9, 9))
    url = httpx.URL(service.address)
    with ExitStack() as held:
        for _ in range(4):
            connection = http.client.HTTPConnection(url.host, url.port or 80, timeout=WITHIN_S)
            held.callback(connection.close)
            connection.request("POST", "/v1/models/grey/segment?format=npz", large)
            # The head of the answer, not its 9 MB: it is made, and waits to be taken.
            assert connection.getresponse().status == 200
        assert segment("grey", small).status_code == 200
