"""What happens when there is more to do than can be done: nobody else is harmed."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model

URL = "/v1/models/gated/segment"


def _wait_for(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if is_so():
            return
        pause.wait(0.05)
    raise TimeoutError("it never happened")


def _metric(address: str, line: str) -> bool:
    return line in httpx.get(f"{address}/metrics").text


def test_a_full_queue_answers_429_at_once_and_takes_more_when_it_has_emptied(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(9, 9))
    served = [("gated", gated_model)]
    with serve_in_thread(served, queue_size=3) as address, ThreadPoolExecutor(3) as threads:

        def post() -> httpx.Response:
            return httpx.post(address + URL, content=image, timeout=60)

        under_way = [threads.submit(post)]
        assert gated_model.entered.acquire(timeout=30)
        under_way += [threads.submit(post) for _ in range(2)]
        waiting = 'longskip_queue_depth{model="gated",version="1"} 2.0'
        _wait_for(lambda: _metric(address, waiting))
        # The gate is shut, so an answer now cannot have waited for a place.
        refused = post()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"] == "urn:longskip:problem:overloaded"
        assert _metric(
            address, 'longskip_refused_total{model="gated",reason="overloaded-queue"} 1.0'
        )
        gated_model.gate.set()
        assert [answer.result().status_code for answer in under_way] == [200, 200, 200]
        assert post().status_code == 200


def test_the_deadline_answers_504_and_the_image_is_dropped(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(9, 9))
    served = [("gated", gated_model)]
    with serve_in_thread(served, deadline_s=0.5) as address, ThreadPoolExecutor(2) as threads:
        first = threads.submit(httpx.post, address + URL, content=image, timeout=60)
        assert gated_model.entered.acquire(timeout=30)
        late = httpx.post(address + URL, content=encode_png(make_pixels(5, 5)), timeout=60)
        assert late.status_code == 504
        assert first.result().status_code == 504
        gated_model.gate.set()
        assert httpx.post(address + URL, content=image, timeout=60).status_code == 200
    assert (1, 1, 5, 5) not in gated_model.sizes_run


def test_an_image_whose_client_went_is_never_run(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    with serve_in_thread([("gated", gated_model)]) as address, ThreadPoolExecutor(1) as threads:
        first = threads.submit(
            httpx.post, address + URL, content=encode_png(make_pixels(9, 9)), timeout=60
        )
        assert gated_model.entered.acquire(timeout=30)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(address + URL, content=encode_png(make_pixels(5, 5)), timeout=0.5)
        gone = 'longskip_refused_total{model="gated",reason="client-gone"} 1.0'
        _wait_for(lambda: _metric(address, gone))
        gated_model.gate.set()
        assert first.result().status_code == 200
        last = httpx.post(address + URL, content=encode_png(make_pixels(3, 3)), timeout=60)
        assert last.status_code == 200
    assert gated_model.sizes_run == [(1, 1, 9, 9), (1, 1, 3, 3)]


def test_decoded_pixels_are_bounded_and_given_back(
    serve_in_thread: Any, gated_model: Any, encode_png: Any
) -> None:
    image = encode_png(np.zeros((200, 200, 1), np.uint8))
    settings = {"max_pixels": 40_000, "max_decoded_megapixels": 0.06}
    with (
        serve_in_thread([("gated", gated_model)], **settings) as address,
        ThreadPoolExecutor(1) as threads,
    ):
        first = threads.submit(httpx.post, address + URL, content=image, timeout=60)
        assert gated_model.entered.acquire(timeout=30)
        refused = httpx.post(address + URL, content=image, timeout=60)
        assert refused.status_code == 429
        assert "pixels" in refused.json()["detail"]
        gated_model.gate.set()
        assert first.result().status_code == 200
        assert httpx.post(address + URL, content=image, timeout=60).status_code == 200


def test_few_of_those_that_wait_are_decoded(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(200, 200))
    of = '{model="gated",version="1"}'
    with (
        serve_in_thread([("gated", gated_model)], decode_workers=3) as address,
        ThreadPoolExecutor(13) as threads,
    ):
        crowd = [threads.submit(httpx.post, address + URL, content=image, timeout=60)]
        assert gated_model.entered.acquire(timeout=30)
        crowd += [
            threads.submit(httpx.post, address + URL, content=image, timeout=60) for _ in range(11)
        ]
        _wait_for(lambda: _metric(address, f"longskip_queue_depth{of} 11.0"))
        # One that runs, two for the next runs, and as many as can be decoded at one time.
        _wait_for(lambda: _metric(address, "longskip_decoded_pixels 240000.0"))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(address + URL, content=image, timeout=0.5)
        _wait_for(lambda: _metric(address, f"longskip_queue_depth{of} 11.0"))
        assert _metric(address, "longskip_decoded_pixels 240000.0")
        gated_model.gate.set()
        assert {answer.result().status_code for answer in crowd} == {200}
        assert _metric(address, f"longskip_queue_depth{of} 0.0")
        assert _metric(address, "longskip_decoded_pixels 0.0")
        timing = max(answer.result().headers["server-timing"] for answer in crowd)
        assert {part.split(";")[0] for part in timing.split(", ")} >= {"queue", "decode", "run"}


def test_a_flooded_model_leaves_room_for_another(
    serve_in_thread: Any, models: Path, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    other = Model.open(models / "colour" / "1" / "model.onnx", device="cpu", threads=1)
    image = encode_png(make_pixels(200, 200))
    # All of the flood may be decoded before its run, so that memory is what it lacks.
    settings = {"max_pixels": 160_000, "max_decoded_megapixels": 0.32, "decode_workers": 6}
    served = [("gated", gated_model), ("other", other)]
    with (
        serve_in_thread(served, **settings) as address,
        ThreadPoolExecutor(8) as threads,
    ):
        flood = [threads.submit(httpx.post, address + URL, content=image) for _ in range(8)]
        # The gate is shut: what was not refused holds its memory.
        _wait_for(lambda: _metric(address, 'reason="overloaded-memory"} 1.0'))
        beside = f"{address}/v1/models/other/segment"
        assert httpx.post(beside, content=image).status_code == 200
        gated_model.gate.set()
        statuses = [answer.result().status_code for answer in flood]
    assert sorted(statuses) == [200] * 7 + [429]


def test_the_event_loop_answers_while_every_thread_is_busy(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    done: list[str] = []
    with serve_in_thread([("gated", gated_model)]) as address, ThreadPoolExecutor(4) as threads:

        def post() -> None:
            httpx.post(address + URL, content=encode_png(make_pixels(9, 9)), timeout=60)
            done.append("segment")

        heavy = [threads.submit(post) for _ in range(4)]
        assert gated_model.entered.acquire(timeout=30)
        for path in ("/v2/health/live", "/v2/health/ready", "/v1/models", "/metrics"):
            assert httpx.get(address + path).status_code == 200
            done.append(path)
        gated_model.gate.set()
        for request in heavy:
            request.result()
    assert done[4:] == ["segment"] * 4


def test_live_answers_while_a_real_image_decodes_runs_and_encodes(
    service: Any, make_pixels: Any, encode_png: Any
) -> None:
    # The service is a process of its own, so this test's work does not hold its lock.
    image = encode_png(make_pixels(700, 700))
    url = f"{service.address}/v1/models/tiled/segment?format=npz"
    with (
        ThreadPoolExecutor(1) as threads,
        httpx.Client(base_url=service.address, timeout=30) as client,
    ):
        heavy = threads.submit(httpx.post, url, content=image, timeout=120)
        lives_before_heavy = 0
        while not heavy.done():
            assert client.get("/v2/health/live").status_code == 200
            lives_before_heavy += not heavy.done()
        assert heavy.result().status_code == 200
    assert lives_before_heavy >= 10


def test_a_body_that_never_ends_is_408_and_holds_no_place(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    gated_model.gate.set()
    served = [("gated", gated_model)]
    with serve_in_thread(served, deadline_s=1.0, queue_size=1) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            head = f"POST {URL} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nabc"
            slow.sendall(head.encode())
            image = encode_png(make_pixels(5, 5))
            assert httpx.post(address + URL, content=image, timeout=60).status_code == 200
            answer = slow.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:longskip:problem:body-too-slow" in answer
