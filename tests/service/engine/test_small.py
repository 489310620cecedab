"""Small images go their way in one thread, with the answers of any other."""

import asyncio
import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from imaging.label_png import read_mask
from service.engine.small import SMALL_BYTES, small_size_hw
from service.engine.upload import Upload

URL = "/v1/models/gated/segment"


@contextmanager
def _upload(content: bytes) -> Iterator[Upload]:
    upload = Upload()
    asyncio.run(upload.write(content))
    yield upload
    asyncio.run(upload.close())


def _with_chunk(png: bytes, kind: bytes, payload: bytes) -> bytes:
    """Put a chunk behind IHDR."""
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return png[:33] + struct.pack(">I", len(payload)) + kind + payload + checksum + png[33:]


@pytest.mark.parametrize(
    ("size_hw", "small"), [((1, 1), True), ((128, 128), True), ((128, 129), False)]
)
def test_a_png_is_small_by_its_header(
    encode_png: Any, size_hw: tuple[int, int], small: bool
) -> None:
    png = encode_png(np.zeros((*size_hw, 1), np.uint8))
    with _upload(png) as upload:
        assert small_size_hw(upload) == (size_hw if small else None)
        assert upload.read() == png


def test_other_files_are_not_small(encode_png: Any) -> None:
    png = encode_png(np.zeros((4, 4, 1), np.uint8))
    for content in (b"", png[:20], b"\xff\xd8\xff" + png, png + bytes(SMALL_BYTES)):
        with _upload(content) as upload:
            assert small_size_hw(upload) is None
    no_pixels = png[:16] + bytes(8) + png[24:]
    with _upload(no_pixels) as upload:
        assert small_size_hw(upload) is None


def test_small_and_large_ways_give_the_same_bytes(service: Any, make_pixels: Any) -> None:
    pixels = make_pixels(45, 60, 3)
    files = {}
    for kind in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        files[kind] = file.getvalue()
    for answer_format in ("png", "overlay", "json", "npz"):
        url = f"{service.address}/v1/models/colour/segment?format={answer_format}"
        small, large = (httpx.post(url, content=content) for content in files.values())
        assert small.status_code == large.status_code == 200
        assert small.content == large.content
        stages = [part.split(";")[0] for part in small.headers["Server-Timing"].split(", ")]
        assert stages == ["admit", "queue", "decode", "run", "encode", "total"]


def test_a_small_image_is_turned_as_its_file_says(service: Any, make_pixels: Any) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: the header's height is the answer's width
    Image.fromarray(make_pixels(20, 50, 3)).save(file, "PNG", exif=exif)
    url = f"{service.address}/v1/models/colour/segment"
    turned = httpx.post(url, content=file.getvalue())
    assert read_mask(turned.content).shape == (50, 20)
    stored = httpx.post(f"{url}?orientation=stored", content=file.getvalue())
    assert read_mask(stored.content).shape == (20, 50)


def test_one_bad_small_image_does_not_spoil_its_batch(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    good = [encode_png(make_pixels(20, 20, seed=seed)) for seed in range(3)]
    cut_off = good[0][:-30]
    turned = _with_chunk(good[1], b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    sent = [*good, cut_off, turned]
    with (
        serve_in_thread([("gated", gated_model)]) as address,
        ThreadPoolExecutor(len(sent) + 1) as threads,
    ):

        def post(content: bytes) -> httpx.Response:
            return httpx.post(address + URL, content=content, timeout=60)

        first = threads.submit(post, encode_png(make_pixels(9, 9)))
        assert gated_model.entered.acquire(timeout=30)
        waiting = [threads.submit(post, content) for content in sent]
        depth = 'longskip_queue_depth{model="gated",version="1"} 5.0'
        while depth not in httpx.get(f"{address}/metrics").text:
            pass
        gated_model.gate.set()
        assert first.result().status_code == 200
        together = [answer.result() for answer in waiting]
        alone = [post(content) for content in sent]
    assert [answer.status_code for answer in together] == [200, 200, 200, 422, 200]
    assert together[3].json()["detail"] == alone[3].json()["detail"]
    assert [a.content for a in together if a.status_code == 200] == [
        a.content for a in alone if a.status_code == 200
    ]


def test_a_small_image_without_room_is_told_so_in_any_company(
    serve_in_thread: Any, gated_model: Any, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(20, 20))
    settings = {"max_pixels": 900, "max_decoded_megapixels": 900e-6}
    with (
        serve_in_thread([("gated", gated_model)], **settings) as address,
        ThreadPoolExecutor(4) as threads,
    ):

        def post(content: bytes) -> httpx.Response:
            return httpx.post(address + URL, content=content, timeout=60)

        first = threads.submit(post, encode_png(make_pixels(9, 9)))
        assert gated_model.entered.acquire(timeout=30)
        waiting = [threads.submit(post, image) for _ in range(3)]
        depth = 'longskip_queue_depth{model="gated",version="1"} 3.0'
        while depth not in httpx.get(f"{address}/metrics").text:
            pass
        gated_model.gate.set()
        assert first.result().status_code == 200
        answers = [answer.result() for answer in waiting]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
