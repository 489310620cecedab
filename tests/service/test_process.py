"""The process itself: its start, what it prints, how it ends, what it imports."""

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.session import why_no_cuda

PROBE = "import sys; {imports}; print(sorted(set(sys.modules) & {{'torch', 'lightning', 'onnx'}}))"


def _run(repository_root: Path, *arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=repository_root,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_importing_the_service_and_making_the_app_leaves_no_torch(repository_root: Path) -> None:
    imports = "import service.__main__, service.app, service.server; service.app.create_app()"
    finished = _run(repository_root, "-c", PROBE.format(imports=imports))
    assert finished.stdout.strip() == "[]", finished.stderr


def test_the_probe_for_torch_can_fail(repository_root: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()  # stands in for the real one, whose import takes seconds
    imports = "import service, torch"
    finished = _run(repository_root, "-c", PROBE.format(imports=imports), PYTHONPATH=str(tmp_path))
    assert finished.stdout.strip() == "['torch']", finished.stderr


def test_importing_the_bare_package_imports_nothing(repository_root: Path) -> None:
    assert (repository_root / "service" / "__init__.py").read_bytes() == b""


@pytest.mark.slow
def test_a_gpu_that_is_asked_for_and_absent_refuses_to_start(
    repository_root: Path, models: Path
) -> None:
    if why_no_cuda() is None:
        pytest.skip("this machine has a GPU, so asking for one is no error")
    finished = _run(
        repository_root,
        *("-m", "service"),
        LONGSKIP_DEVICE="cuda",
        LONGSKIP_MODELS=str(models),
        LONGSKIP_PORT="0",
    )
    assert finished.returncode == 3
    (line,) = finished.stderr.splitlines()
    assert line.startswith("longskip: not started: LONGSKIP_DEVICE=cuda")
    assert finished.stdout == ""


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_before_the_models_are_loaded(
    repository_root: Path, models: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"LONGSKIP_MODELS": str(models), "LONGSKIP_PORT": str(port)}
        finished = _run(repository_root, "-m", "service", **settings)
    assert finished.returncode == 4
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"longskip: not started: cannot listen on 127.0.0.1 port {port}: ")
    assert "LONGSKIP_PORT" in line
    assert finished.stdout == ""


def test_help_needs_neither_the_web_server_nor_onnxruntime(repository_root: Path) -> None:
    code = (
        "import sys\nfrom service.__main__ import main\ntry:\n    main(['--help'])\n"
        "except SystemExit:\n    print(sorted({'fastapi', 'onnxruntime', 'cv2'} & {*sys.modules}))"
    )
    finished = _run(repository_root, "-c", code)
    assert finished.stdout.splitlines()[-1] == "[]", finished.stderr


@pytest.mark.slow
def test_the_printed_curl_line_works_as_pasted_and_sigterm_ends_cleanly(
    start_service: Any, models: Path, tmp_path: Path, make_pixels: Any, encode_png: Any
) -> None:
    samples = tmp_path / "my samples"
    samples.mkdir()
    (samples / "a sample.png").write_bytes(encode_png(make_pixels(30, 30, 5 - 2)))
    with start_service(models=models, samples=samples) as service:
        said = service.log.read_text()
        assert re.search(r"models .*colour/1, colour/2, colour/3 \(failed\)", said)
        line = re.search(r"try +(curl .*)", said)
        assert line is not None
        # The first model takes 3 channels, as the sample has.
        command = shlex.split(line[1])
        assert command[0] == "curl"
        subprocess.run(line[1], shell=True, cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
        page = httpx.get(f"{service.address}/page/samples")
        assert page.json() == ["a sample.png"]
        assert service.stop() == 0
        assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_a_request_under_way_is_answered_before_the_end(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(700, 700))
    begun = 'longskip_batch_images_count{model="tiled",version="1"} 1.0'
    with start_service(models=models) as service, ThreadPoolExecutor(1) as threads:
        url = f"{service.address}/v1/models/tiled/segment?format=npz"
        answer = threads.submit(httpx.post, url, content=image, timeout=60)
        with httpx.Client(base_url=service.address, timeout=30) as client:
            while begun not in client.get("/metrics").text:
                assert not answer.done()
        assert service.stop() == 0
        assert answer.result().status_code == 200


@pytest.mark.slow
def test_who_stops_it_twice_does_not_wait_and_the_clients_are_told(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(4000, 4000))
    with start_service(models=models) as service, ThreadPoolExecutor(1) as threads:
        url = f"{service.address}/v1/models/tiled/segment?format=npz"
        answer = threads.submit(httpx.post, url, content=image, timeout=60)
        with httpx.Client(base_url=service.address, timeout=30) as client:
            under_way = 'longskip_requests_under_way{model="tiled",version="1"} 1.0'
            while under_way not in client.get("/metrics").text:
                assert not answer.done()
        service.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        service.process.send_signal(signal.SIGINT)
        refused = answer.result()
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:longskip:problem:stopping"
        assert service.process.wait(30) == 0


def test_it_answers_for_a_while_after_sigterm_and_says_that_it_is_not_ready(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(8, 8))
    with (
        start_service(models=models, drain_s=2) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
    ):
        assert client.get("/v2/health/ready").status_code == 200
        service.process.terminate()
        until = time.monotonic() + 1.5
        while client.get("/v2/health/ready").status_code == 200 and time.monotonic() < until:
            time.sleep(0.02)
        not_ready = client.get("/v2/health/ready")
        assert not_ready.status_code == 503
        assert "about to stop" in not_ready.json()["error"]
        assert client.get("/v2/health/live").status_code == 200
        assert client.post("/v1/models/grey/segment", content=image).status_code == 200
        assert service.process.wait(20) == 0


def test_who_comes_while_the_last_ones_are_answered_is_told_to_come_again(
    start_service: Any, models: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = encode_png(make_pixels(8, 8))
    head = (
        "POST /v1/models/grey/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(image)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with (
        start_service(models=models) as service,
        httpx.Client(base_url=service.address, timeout=30, trust_env=False) as client,
        socket.create_connection(("127.0.0.1", httpx.URL(service.address).port)) as slow,
    ):
        slow.sendall(head.encode())
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        service.process.terminate()
        while client.get("/v2/health/ready").status_code == 200:
            time.sleep(0.02)
        # More than the sockets hold: an answer that did not wait for the body would be lost.
        large = bytes(20_000_000)
        v1 = client.post("/v1/models/grey/segment", content=large)
        assert v1.status_code == 503
        assert v1.json()["type"] == "urn:longskip:problem:stopping"
        v2 = client.post("/v2/models/grey/infer", content=b"{}")
        assert v2.status_code == 503
        assert list(v2.json()) == ["error"]
        for refused in (v1, v2):
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["connection"] == "close"
        assert client.get("/v2/health/live").status_code == 200
        slow.sendall(image)
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log.read_text()


def test_a_second_sigterm_does_not_wait(start_service: Any, models: Path) -> None:
    with start_service(models=models, drain_s=600) as service:
        service.process.terminate()
        while httpx.get(f"{service.address}/v2/health/ready", trust_env=False).status_code == 200:
            time.sleep(0.02)
        assert service.stop() == 0
