"""The repository of a running service: index, load and unload, and new files under load."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from contract.model import Model

Build = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path, build_threshold_model: Build) -> Path:
    """Two models, one of them broken."""
    build_threshold_model(tmp_path / "m" / "1" / "model.onnx", name="m")
    (tmp_path / "torn" / "1").mkdir(parents=True)
    (tmp_path / "torn" / "1" / "model.onnx").write_bytes(b"torn")
    return tmp_path


def test_the_stock_client_lists_loads_and_unloads(root: Path, start_service: Any) -> None:
    with (
        start_service(models=root, dev=True, reload=False) as service,
        triton.InferenceServerClient(service.address.removeprefix("http://")) as stock,
    ):
        index = {entry["name"]: entry for entry in stock.get_model_repository_index()}
        assert index["m"] == {"name": "m", "version": "1", "state": "READY"}
        assert index["torn"]["state"] == "UNAVAILABLE"
        assert index["torn"]["reason"]
        stock.unload_model("m")
        assert not stock.is_model_ready("m")
        assert not stock.is_server_ready()
        assert stock.get_model_repository_index()[0]["reason"] == "unloaded"
        stock.load_model("m")
        assert stock.is_model_ready("m")
        for wrong in ("nowhere", "torn", "..%2Fm"):
            with pytest.raises(InferenceServerException) as refused:
                stock.load_model(wrong)
            assert refused.value.status() in ("400", "404")
        with pytest.raises(InferenceServerException, match="no parameters"):
            stock.load_model("m", config='{"max_batch_size": 1}')


@pytest.mark.parametrize("place", ["/v1/models/m/segment", "/v1/models/m/segment-many"])
def test_who_sends_its_image_while_the_model_is_unloaded_gets_its_answer(
    root: Path, start_service: Any, make_pixels: Any, encode_png: Any, place: str
) -> None:
    image = encode_png(make_pixels(64, 64))
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="i"\r\n\r\n'
    body += image + b"\r\n--b--\r\n"
    head = f"POST {place} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    with start_service(models=root, dev=True, reload=False) as service:
        address = service.address.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=30) as slow:
            slow.sendall(head.encode() + body[:100])
            time.sleep(0.3)  # it has found its model by now, or is refused below
            unload = f"{service.address}/v2/repository/models/m/unload"
            assert httpx.post(unload, timeout=30, trust_env=False).status_code == 200
            slow.sendall(body[100:])
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
        ready = httpx.get(f"{service.address}/v2/models/m/ready", trust_env=False)
        assert ready.status_code == 400


def test_without_a_key_or_dev_nothing_is_loaded(client: httpx.Client) -> None:
    for verb in ("load", "unload"):
        refused = client.post(f"/v2/repository/models/grey/{verb}")
        assert refused.status_code == 403
        assert "LONGSKIP_KEYS" in refused.json()["error"]
    assert client.get("/v2/models/grey/ready").status_code == 200


def test_a_page_of_another_origin_cannot_unload(root: Path, start_service: Any) -> None:
    with start_service(models=root, dev=True) as service:
        url = f"{service.address}/v2/repository/models/m/unload"
        headers = {"Origin": "https://elsewhere.example"}
        assert httpx.post(url, headers=headers, trust_env=False).status_code == 403


def test_the_index_refuses_bodies_that_are_none(client: httpx.Client) -> None:
    url = "/v2/repository/index"
    assert {one["state"] for one in client.post(url, content=b'{"ready": true}').json()} == {
        "READY"
    }
    for body in (b"[]", b"{", b"x" * 20_000):
        refused = client.post(url, content=body)
        assert refused.status_code == 400
        assert refused.json()["error"]


def test_files_change_under_load_and_every_answer_is_of_the_file_it_names(
    root: Path, start_service: Any, build_threshold_model: Build, tmp_path_factory: Any
) -> None:
    aside = tmp_path_factory.mktemp("aside")
    files = [root / "m" / "1" / "model.onnx"]
    for place, threshold in enumerate((-0.6, 0.1, 0.9)):
        files.append(build_threshold_model(aside / f"{place}.onnx", name="m", threshold=threshold))
    images = np.random.default_rng(0).random((1, 1, 24, 24), np.float32) * 255
    expected: dict[str, bytes] = {}
    for file in files:
        model = Model.open(file, device="cpu", threads=1)
        expected[model.sha256] = model.segment(images[0]).labels.tobytes()
    assert len(set(expected.values())) == len(files)
    torn = files[1].read_bytes()[:1000]
    seen: list[tuple[str, bytes]] = []
    failed: list[str] = []
    stop = threading.Event()

    def ask(address: str) -> None:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 24, 24]}
        body = {
            "inputs": [{**tensor, "data": images.ravel().tolist()}],
            "outputs": [{"name": "labels"}],
        }
        with httpx.Client(base_url=address, timeout=None, trust_env=False) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v2/models/m/infer", json=body)
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                    return
                if answer.status_code != 200:
                    failed.append(answer.text)
                    continue
                labels = np.array(answer.json()["outputs"][0]["data"], np.uint8)
                seen.append((answer.headers["x-longskip-sha256"], labels.tobytes()))

    # How long it takes is no claim here: a machine that stands still for a while is no fault, and
    # the test's own time limit ends one that hangs.
    with start_service(models=root, dev=True, reload=False, deadline_s=600) as service:
        threads = [threading.Thread(target=ask, args=(service.address,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        target = root / "m" / "1" / "model.onnx"
        try:
            for file in (*files[1:], None, files[1], None, files[2]):
                if file is None:
                    target.write_bytes(torn)
                else:
                    shutil.copy(file, target.with_suffix(".tmp"))
                    os.replace(target.with_suffix(".tmp"), target)
                url = f"{service.address}/v2/repository/models/m/load"
                assert httpx.post(url, timeout=None, trust_env=False).status_code == 200
                so_far = len(seen)
                # Each of the three may have asked before: the fourth answer is of the new file.
                while len(seen) < so_far + 4 and not failed:
                    time.sleep(0.01)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    assert not failed
    assert {sha for sha, _ in seen} >= {Model.open(f, prove=False).sha256 for f in files[1:]}
    assert all(expected[sha] == labels for sha, labels in seen)
