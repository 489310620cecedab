"""Many images in one request: each is answered as alone, in order, and each fault in its place."""

import gc
import io
import json
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model, Segmentation
from service.engine.queue import Job
from service.protocols import v1_segment_many

URL = "/v1/models/grey/segment-many"


@pytest.fixture(scope="module")
def images(make_pixels: Any, encode_png: Any) -> list[bytes]:
    """Two sizes in turns."""
    return [encode_png(make_pixels(20 + n % 2, 24, seed=n)) for n in range(11)]


def form(images: Sequence[bytes]) -> dict[str, Any]:
    return {"files": [("file", ("patient.png", image)) for image in images]}


def archive(images: Sequence[bytes]) -> dict[str, Any]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writing:
        for n, image in enumerate(images):
            writing.writestr(f"patient/{len(images) - n}.png", image)
    return {"content": packed.getvalue(), "headers": {"Content-Type": "application/zip"}}


def read(answer: httpx.Response) -> list[tuple[int, str, bytes]]:
    """Status, name and bytes of each."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as unpacked:
        assert unpacked.testzip() is None
        about = json.loads(unpacked.read("index.json"))["images"]
        assert unpacked.namelist() == [one["file"] for one in about] + ["index.json"]
        return [(one["status"], one["file"], unpacked.read(one["file"])) for one in about]


@pytest.mark.parametrize("pack", [form, archive])
@pytest.mark.parametrize("answer_format", ["png", "json", "bits"])
def test_each_is_answered_as_alone_and_in_order(
    client: httpx.Client, segment: Any, images: list[bytes], pack: Any, answer_format: str
) -> None:
    answer = client.post(URL, params={"format": answer_format}, **pack(images))
    alone = [segment("grey", image, format=answer_format).content for image in images]
    assert [content for _, _, content in read(answer)] == alone
    suffix = {"png": "png", "json": "json", "bits": "npz"}[answer_format]
    assert [name for _, name, _ in read(answer)] == [f"{n:04d}.{suffix}" for n in range(1, 12)]
    assert answer.headers["x-longskip-model"] == "grey"


def test_a_fault_is_told_in_its_place(
    client: httpx.Client, segment: Any, images: list[bytes], make_pixels: Any, encode_png: Any
) -> None:
    colour = encode_png(make_pixels(9, 9, 3))
    sent = [images[0], b"no image", b"", images[1][:60], colour, images[2]]
    answer = read(client.post(URL, **form(sent)))
    assert [status for status, _, _ in answer] == [200, 415, 422, 422, 200, 200]
    assert [name for _, name, _ in answer][1] == "0002.problem.json"
    problem = json.loads(answer[1][2])
    assert problem["type"] == "urn:longskip:problem:unsupported-image"
    assert problem["request_id"]
    assert answer[0][2] == segment("grey", images[0]).content
    assert answer[5][2] == segment("grey", images[2]).content


def test_refused_images_are_counted_as_refused(client: httpx.Client, images: list[bytes]) -> None:
    def counts() -> tuple[int, float]:
        stats = client.get("/v2/models/grey/versions/1/stats").json()["model_stats"][0]
        refused = [
            float(line.rpartition(" ")[2])
            for line in client.get("/metrics").text.splitlines()
            if line.startswith('longskip_refused_total{model="grey",reason="unsupported-image"}')
        ]
        return stats["inference_count"], sum(refused)

    before = counts()
    read(client.post(URL, **form([images[0], b"no image", b"no image either", images[1]])))
    assert counts() == (before[0] + 2, before[1] + 2)


def test_too_large_images_are_told_in_their_place(
    client: httpx.Client, images: list[bytes], make_pixels: Any, encode_png: Any
) -> None:
    sent = form([encode_png(make_pixels(65, 64)), encode_png(make_pixels(64, 64))])
    answer = read(client.post("/v1/models/whole/versions/1/segment-many", **sent))
    assert [status for status, _, _ in answer] == [413, 200]


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        ({"files": [("file", ("a", b"x"))] * 65}, 422, "invalid-request"),
        ({"files": [("file", ("a", b"x"))] * 66}, 400, "malformed-body"),
        ({"files": {"picture": ("a", b"x")}}, 422, "invalid-request"),
        ({"files": {"file": ("a", b"x")}, "data": {"format": "json"}}, 422, "invalid-request"),
        ({"content": b"x", "headers": {"Content-Type": "image/png"}}, 415, "unsupported-media"),
        ({"content": b"x", "headers": {"Content-Type": "application/zip"}}, 400, "malformed-body"),
        (archive([b"x"] * 65), 422, "invalid-request"),
        (archive([bytes(2_000_001)]), 413, "body-too-large"),
        (archive([]), 422, "invalid-request"),
        ({"params": {"format": "bmp"}} | form([b"x"]), 422, "invalid-request"),
    ],
)
def test_what_does_not_fit_is_refused_as_a_whole(
    client: httpx.Client, request_: dict[str, Any], status: int, slug: str
) -> None:
    answer = client.post(URL, **request_)
    assert answer.status_code == status, answer.text
    assert slug in answer.json()["type"]


def test_names_are_nowhere_in_the_log(
    client: httpx.Client, service: Any, images: list[bytes]
) -> None:
    for pack in (form, archive):
        sent = pack([images[0], b"patient"])
        assert b"patient" not in client.post(URL, **sent).content
    assert "patient" not in service.log.read_text()


def test_images_of_equal_size_share_runs(
    serve_in_thread: Any, gated_model: Any, images: list[bytes], wait_until_waiting: Any
) -> None:
    with serve_in_thread([("grey", gated_model)]) as address, ThreadPoolExecutor(2) as threads:
        # The first holds the worker, so that others wait when it is let go.
        first = threads.submit(httpx.post, f"{address}{URL}", timeout=30, **form(images[:1]))
        assert gated_model.entered.acquire(timeout=30)
        answer = threads.submit(httpx.post, f"{address}{URL}", timeout=30, **form(images[::2]))
        wait_until_waiting(address, "grey", 2)  # more begin when one is answered
        gated_model.gate.set()
        assert {status for status, _, _ in read(answer.result())} == {200}
        assert {status for status, _, _ in read(first.result())} == {200}
    assert gated_model.sizes_run[:2] == [(1, 1, 20, 24), (2, 1, 20, 24)]
    assert sum(shape[0] for shape in gated_model.sizes_run) == 7


def test_the_deadline_is_kept(serve_in_thread: Any, gated_model: Any, images: list[bytes]) -> None:
    with serve_in_thread([("grey", gated_model)], deadline_s=1.0) as address:
        answer = httpx.post(f"{address}{URL}", timeout=30, **form(images))
        gated_model.gate.set()
    assert {status for status, _, _ in read(answer)} == {504}


def test_a_request_whose_client_goes_leaves_nothing_behind(
    serve_in_thread: Any, gated_model: Any, images: list[bytes]
) -> None:
    with serve_in_thread([("grey", gated_model)], queue_size=4) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}{URL}", timeout=httpx.Timeout(30, read=0.5), **form(images))
        gated_model.gate.set()
        # More than there are slots at one time: those wait their turn, for the request is let in.
        answer = httpx.post(f"{address}{URL}", timeout=30, **form(images))
        assert [status for status, _, _ in read(answer)] == [200] * len(images)
        metrics = httpx.get(f"{address}/metrics").text
    assert 'longskip_queue_depth{model="grey",version="1"} 0.0' in metrics
    assert sum(shape[0] for shape in gated_model.sizes_run) < 2 * len(images)


def test_memory_is_waited_for(
    serve_in_thread: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    model = Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1)
    image = encode_png(make_pixels(100, 100))
    room = {"max_pixels": 15_000, "max_decoded_megapixels": 0.015}
    with serve_in_thread([("grey", model)], **room) as address:
        answer = read(httpx.post(f"{address}{URL}", timeout=30, **form([image] * 4)))
    assert [status for status, _, _ in answer] == [200] * 4
    assert len({content for _, _, content in answer}) == 1
    assert np.frombuffer(answer[0][2][:4], np.uint8).tolist() == [137, 80, 78, 71]


@pytest.mark.parametrize(
    ("room", "size"),
    [
        ({"max_pixels": 60_000, "max_decoded_megapixels": 0.06}, (200, 200)),
        ({"max_pixels": 15_000, "max_decoded_megapixels": 0.015}, (100, 100)),  # decoded in the run
        ({"queue_size": 1}, (100, 100)),
    ],
)
def test_who_waits_for_room_is_woken_when_there_is_some(
    serve_in_thread: Any,
    gated_model: Any,
    make_pixels: Any,
    encode_png: Any,
    monkeypatch: pytest.MonkeyPatch,
    room: dict[str, Any],
    size: tuple[int, int],
) -> None:
    monkeypatch.setattr(v1_segment_many, "FIRST_WAIT_S", 100.0)
    sent = form([encode_png(make_pixels(*size))] * 6)
    with serve_in_thread([("grey", gated_model)], **room) as address, ThreadPoolExecutor(1) as ask:
        answer = ask.submit(httpx.post, f"{address}{URL}", timeout=30, **sent)
        assert gated_model.entered.acquire(timeout=30)
        time.sleep(0.5)  # the others were turned away by now, and wait
        gated_model.gate.set()
        assert [status for status, _, _ in read(answer.result())] == [200] * 6
    assert [shape[0] for shape in gated_model.sizes_run] == [1] * 6


def test_images_are_let_go_when_they_are_answered(
    serve_in_thread: Any, models: Path, images: list[bytes]
) -> None:
    def held() -> int:
        # By type and not by isinstance(), at which some objects of other libraries warn.
        return sum(type(one) in (Job, Segmentation) for one in gc.get_objects())

    model = Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1)
    gc.collect()
    gc.disable()  # it comes by when objects are many, not when they are large
    before = held()
    try:
        with serve_in_thread([("grey", model)]) as address:
            read(httpx.post(f"{address}{URL}", timeout=30, **form(images)))
            httpx.post(f"{address}/v1/models/grey/segment", content=images[0], timeout=30)
            assert held() <= before
    finally:
        gc.enable()
