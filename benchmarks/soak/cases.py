"""What is asked: good requests whose answer is known, and hostile ones that must be refused."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from benchmarks.soak.truth import Labels, Truth
from imaging.label_png import read_mask
from imaging.rle import decode_rle

Headers = Mapping[str, str]
Judge = Callable[[int, Headers, bytes], str | None]
"""Status, headers by lower-case name and body to what is wrong with them, or None."""

OK, TOO_MANY = 200, 429
SIDES_PX = (64, 65, 80, 96, 127, 128)
FORMATS = ("png", "json", "overlay", "npz", "rle")


@dataclass(frozen=True)
class Case:
    """One request and what its answer must be.

    Attributes:
        name: for the report.
        target: path and query.
        body: as sent.
        judge: of the answer.
        headers: besides Content-Length.
        method: of HTTP.
        announced_bytes: Content-Length where it is not the body's; then it is never all sent.
    """

    name: str
    target: str
    body: bytes
    judge: Judge
    headers: Headers = field(default_factory=dict)
    method: str = "POST"
    announced_bytes: int | None = None


def draw_image(random: Generator) -> bytes:
    """Draw blobs on an RGB or grey image of a small size, as a PNG."""
    height, width = random.choice(SIDES_PX, 2)
    coarse = random.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
    return _png(pixels if random.random() < 0.7 else pixels[:, :, 0])


def good_case(model: str, image: bytes, truth: Truth, random: Generator) -> Case:
    """Ask for one image in one of the ways that there are."""
    ways: list[Callable[[], Case]] = [
        lambda: segment_case(
            model,
            image,
            truth,
            answer_format=str(random.choice(FORMATS)),
            form=random.random() < 0.5,
        ),
        lambda: segment_case(model, image, truth),
        lambda: _infer(model, image, truth, binary=random.random() < 0.7),
    ]
    return ways[random.choice(len(ways), p=(0.6, 0.2, 0.2))]()


def segment_case(
    model: str, image: bytes, truth: Truth, *, answer_format: str = "png", form: bool = False
) -> Case:
    """Ask for one image, as a form or as it is."""

    def judge(status: int, headers: Headers, body: bytes) -> str | None:
        if status != OK:
            return None if _told_to_come_again(status, headers) else f"status {status}"
        try:
            expected = truth.labels(image, headers["x-longskip-sha256"])
        except KeyError:
            return "answered by a file that was never there"
        if answer_format == "overlay":
            came = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
            return None if came.shape[:2] == expected.shape else "an overlay of another size"
        came = _READERS[answer_format](body)
        return None if np.array_equal(came, expected) else "WRONG MASK"

    headers, sent = _as_form(image) if form else ({"Content-Type": "image/png"}, image)
    target = f"/v1/models/{model}/segment?format={answer_format}"
    return Case(f"v1 {answer_format}", target, sent, judge, headers)


def _infer(model: str, image: bytes, truth: Truth, *, binary: bool) -> Case:
    """Ask with two tensors at once: they run as two images and come back in order."""
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    image_chw = np.ascontiguousarray(decoded[:, :, ::-1].transpose(2, 0, 1), np.float32)
    as_png = _png(decoded)
    tensor = {"name": "image", "datatype": "FP32", "shape": [2, *image_chw.shape]}
    values = np.stack([image_chw, image_chw])
    headers, body = {"Content-Type": "application/octet-stream"}, values.tobytes()
    if binary:
        tensor["parameters"] = {"binary_data_size": len(body)}
    else:
        tensor["data"], body = values.ravel().tolist(), b""
    outputs = [{"name": "labels", "parameters": {"binary_data": binary}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(head))

    def judge(status: int, headers: Headers, body: bytes) -> str | None:
        if status != OK:
            return None if _told_to_come_again(status, headers) else f"status {status}"
        expected = truth.labels(as_png, headers["x-longskip-sha256"])
        if binary:
            came = np.frombuffer(body[int(headers["inference-header-content-length"]) :], np.uint8)
        else:
            came = np.array(json.loads(body)["outputs"][0]["data"], np.uint8)
        twice = np.concatenate([expected.ravel(), expected.ravel()])
        return None if np.array_equal(came, twice) else "WRONG MASK"

    name = f"v2 {'binary' if binary else 'json'}"
    return Case(name, f"/v2/models/{model}/infer", head + body, judge, headers)


def hostile_cases(model: str, image: bytes, truth: Truth, more: Path | None) -> list[Case]:
    """Return requests that are wrong, damaged or meant to harm.

    Args:
        model: that exists.
        image: a good one, to be damaged.
        truth: for files of ``more`` that turn out to be readable.
        more: a folder of hostile files, or None.
    """
    segment = f"/v1/models/{model}/segment"
    infer = f"/v2/models/{model}/infer"
    noise = np.random.default_rng(1).bytes(5000)
    bodies = {
        "empty": b"",
        "one byte": b"\x89",
        "cut off": image[: len(image) // 2],
        "cut in its header": image[:20],
        "random bytes": noise,
        "random bytes behind a signature": image[:8] + noise,
        "damaged": image[:60] + bytes(40) + image[100:],
        "a bomb": _bomb(),
        "2^31 x 2^31": _png_header(2**31 - 1, 2**31 - 1),
        "65535 x 65535 as BMP": _bmp_header(65535, 65535),
        "an endless TIFF": struct.pack("<2sHIH", b"II", 42, 8, 0xFFFF) + bytes(64),
        "text": b"<svg onload=alert(1)>" * 50,
    }
    cases = [_refused(name, segment, body) for name, body in bodies.items()]
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    cases += [
        _refused("a content type that is none", segment, image, {"Content-Type": "text/html"}),
        _refused("a compressed body", segment, image, {"Content-Encoding": "gzip"}),
        _refused("a form without its end", segment, _as_form(image)[1][:-9], _as_form(image)[0]),
        _refused("a form without a file", segment, b"--x--\r\n", form),
        _refused("a form that is none", segment, noise, form),
        _refused("an option that is none", f"{segment}?colour=red", image),
        _refused("an option twice", f"{segment}?format=png&format=json", image),
        _refused("a number that is none", f"{segment}?opacity=nan", image),
        _refused("a model that is none", "/v1/models/no-such/segment", image),
        _refused("a path upwards", "/v1/models/..%2f..%2fetc/segment", image),
        _refused("a version that is none", f"/v1/models/{model}/versions/0/segment", image),
        _refused("another method", segment, b"", method="DELETE"),
        _refused("a body past the limit", segment, b"abc", announced_bytes=10**12),
        _refused("no JSON", infer, b"{"),
        _refused("JSON that is no object", infer, b"[[[[[1]]]]]"),
        _refused("deep JSON", infer, b"[" * 100_000),
        _refused("no inputs", infer, b"{}"),
        _refused("a negative shape", infer, _tensor([1, 3, -8, 8])),
        _refused("a shape of 10^18 values", infer, _tensor([1, 3, 10**9, 10**9])),
        _refused("values that are not there", infer, _tensor([1, 3, 8, 8])),
        _refused(
            "a length that is none",
            infer,
            _tensor([1, 3, 8, 8]),
            {"Inference-Header-Content-Length": "-1"},
        ),
    ]
    files = sorted(path for path in more.rglob("*") if path.is_file()) if more is not None else []
    return cases + [_whatever(path, segment, truth) for path in files if path.suffix != ".md"]


def _refused(
    name: str,
    target: str,
    body: bytes,
    headers: Headers | None = None,
    *,
    method: str = "POST",
    announced_bytes: int | None = None,
) -> Case:
    def judge(status: int, headers: Headers, body: bytes) -> str | None:
        if not 400 <= status < 500:
            return f"status {status} in place of a refusal"
        told = json.loads(body)
        return None if told.get("detail") or told.get("error") else "a refusal without a reason"

    headers = {"Content-Type": "image/png"} if headers is None else headers
    return Case(name, target, body, judge, headers, method, announced_bytes)


def _whatever(path: Path, target: str, truth: Truth) -> Case:
    """Ask with a file of which it is not known whether it can be read."""
    sent = path.read_bytes()

    def judge(status: int, headers: Headers, body: bytes) -> str | None:
        if 400 <= status < 500:
            return None
        if status != OK:
            return f"status {status}"
        expected = truth.labels(sent, headers["x-longskip-sha256"])
        return None if np.array_equal(read_mask(body), expected) else "WRONG MASK"

    name = f"{path.parent.name}/{path.name}"
    return Case(name, target, sent, judge, {"Content-Type": "application/octet-stream"})


def _told_to_come_again(status: int, headers: Headers) -> bool:
    return status == TOO_MANY and headers.get("retry-after", "").isdecimal()


def _of_json(body: bytes) -> Labels:
    answer = json.loads(body)
    labels = np.zeros(answer["size"], np.uint8)
    for one in answer["classes"]:
        labels[decode_rle(one["rle"])] = one["index"]
    return labels


def _of_npz(body: bytes) -> Labels:
    with np.load(io.BytesIO(body)) as archive:
        labels: Labels = archive["labels"]
        if archive["probabilities"].shape[1:] != labels.shape:
            raise ValueError("labels and probabilities differ in size")
        return labels


def _of_runs(body: bytes) -> Labels:
    with np.load(io.BytesIO(body)) as archive:
        return np.repeat(archive["values"], archive["lengths"]).reshape(archive["shape"])


_READERS: dict[str, Callable[[bytes], Labels]] = {
    "png": read_mask,
    "json": _of_json,
    "npz": _of_npz,
    "rle": _of_runs,
}


def _as_form(image: bytes) -> tuple[Headers, bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return {"Content-Type": "multipart/form-data; boundary=x"}, head + image + b"\r\n--x--\r\n"


def _tensor(shape: list[int]) -> bytes:
    tensor = {"name": "image", "datatype": "FP32", "shape": shape, "data": [1.0]}
    return json.dumps({"inputs": [tensor]}).encode()


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def _png_header(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        checked = kind + payload
        return struct.pack(">I", len(payload)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _bomb() -> bytes:
    return _png_header(30_000, 30_000, zlib.compress(bytes(1_000_000)))


def _bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + info
