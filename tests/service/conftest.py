"""A real service on loopback with small real model files, and ways to talk to it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import onnxruntime as ort
import pytest
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from contract.model import Model, Segmentation
from contract.session import open_session
from contract.spec import Tiles
from service.app import create_app
from service.connection import Connection
from service.engine.run import SegmentationModel
from service.repository.repository import Repository, ServedModel
from service.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Callable[..., Path]
) -> Path:
    """A repository: good models of each kind, and every kind of broken one beside them."""
    root = tmp_path_factory.mktemp("models")
    three = ("background", "mid", "high")

    def build(name: str, version: int = 1, **options: Any) -> None:
        build_threshold_model(root / name / str(version) / "model.onnx", name=name, **options)

    build("grey")
    build("colour", channels=3, classes=three, threshold=0.0)
    build("colour", version=2, channels=3, classes=three, threshold=0.25)
    build("colour", version=3, channels=3, classes=three, break_golden=True)
    build("dial", with_dial=True)
    build("layers", task="multilabel", classes=("a", "b"))
    build("five", channels=5)
    build("tiled", whole_image_max_pixels=64 * 64, tiles=Tiles(patch=(32, 48)))
    build("whole", whole_image_max_pixels=64 * 64, tileable=False)
    build("newer", break_spec="newer")
    build("foreign", break_spec="missing")
    broken = root / "rubbish" / "1" / "model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"this is no model")
    return root


@dataclass(frozen=True)
class ServiceProcess:
    """A started ``python -m service``."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def peak_memory_mb(self) -> float:
        """The most resident memory that the process ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)


StartService = Callable[..., AbstractContextManager[ServiceProcess]]


def service_environment(**settings: object) -> dict[str, str]:
    """This process's environment with these settings and no other of Longskip's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LONGSKIP_")}
    threads = {"LONGSKIP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return kept | threads | {f"LONGSKIP_{k.upper()}": str(v) for k, v in settings.items()}


@pytest.fixture(scope="session")
def start_service(tmp_path_factory: pytest.TempPathFactory, repository_root: Path) -> StartService:
    """Start ``python -m service`` on a free port; it is ended by its id on the way out."""

    @contextmanager
    def start(**settings: object) -> Iterator[ServiceProcess]:
        log = tmp_path_factory.mktemp("service") / "log.txt"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                cwd=repository_root,
                env=service_environment(port=0, **settings),
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield ServiceProcess(_wait_for_address(process, log), process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return start


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        found = re.search(r"page +(http://\S+)/", log.read_text())
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the service did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def service(start_service: StartService, models: Path) -> Iterator[ServiceProcess]:
    """One service for all tests that leave it as it is."""
    with start_service(models=models, max_body_mb=2) as started:
        yield started


@pytest.fixture(scope="session")
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    """Talks to ``service``."""
    with httpx.Client(base_url=service.address, timeout=30.0, trust_env=False) as opened:
        yield opened


Segment = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def segment(client: httpx.Client) -> Segment:
    """Post an image's bytes to a model of ``service``."""

    def post(model: str, image: bytes, **query: object) -> httpx.Response:
        url = f"/v1/models/{model}/segment"
        return client.post(url, params=query, files={"file": ("image", image)})

    return post


@pytest.fixture(scope="session")
def plain_onnxruntime(models: Path) -> Callable[..., dict[str, Any]]:
    """What anyone gets from the file alone, without a line of Longskip's around the run."""
    sessions: dict[tuple[str, int], ort.InferenceSession] = {}

    def run(model: str, pixels_hwc: Any, version: int = 1) -> dict[str, Any]:
        if (model, version) not in sessions:
            path = models / model / str(version) / "model.onnx"
            sessions[model, version] = open_session(path, device="cpu", threads=1)
        image = pixels_hwc.transpose(2, 0, 1)[None].astype(np.float32)
        names = ["labels", "probabilities"]
        answers = sessions[model, version].run(names, {"image": image})
        return {name: answer[0] for name, answer in zip(names, answers, strict=True)}

    return run


def png_of(pixels_hwc: Any) -> bytes:
    """Encode RGB or grey pixels without loss."""
    order = pixels_hwc[:, :, ::-1] if pixels_hwc.shape[2] == 3 else pixels_hwc
    return cv2.imencode(".png", order)[1].tobytes()


@pytest.fixture(scope="session")
def encode_png() -> Callable[[Any], bytes]:
    """The lossless encoder, as a fixture."""
    return png_of


@pytest.fixture(scope="session")
def make_pixels() -> Callable[..., Any]:
    """Smooth blobs: neighbouring pixels agree, so that masks have regions."""

    def make(height: int, width: int, channels: int = 1, *, seed: int = 0, bits: int = 8) -> Any:
        generator = np.random.default_rng(seed)
        coarse = generator.random((height // 6 + 2, width // 6 + 2, channels), np.float32)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        scaled = np.clip(fine.reshape(height, width, channels), 0, 1) * (2**bits - 1)
        return scaled.astype(np.uint8 if bits == 8 else np.uint16)

    return make


class GatedModel:
    """A real model that runs only while its gate is open, so that tests can order what happens."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.sizes_run: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, image_nchw: Any, **options: Any) -> dict[str, Any]:
        self._pass(image_nchw.shape)
        return self._model.run(image_nchw, **options)

    def segment(self, image_chw: Any, **options: Any) -> Segmentation:
        self._pass((1, *image_chw.shape))
        return self._model.segment(image_chw, **options)

    def _pass(self, shape: tuple[int, ...]) -> None:
        self.entered.release()
        if not self.gate.wait(30):
            raise TimeoutError("the test never opened the gate")
        self.sizes_run.append(tuple(shape))


@pytest.fixture
def shut_gate() -> Callable[[Model], GatedModel]:
    """Put a model behind a gate that is shut."""
    return GatedModel


@pytest.fixture
def gated_model(models: Path) -> GatedModel:
    """The model ``grey`` behind a gate that is shut."""
    path = models / "grey" / "1" / "model.onnx"
    return GatedModel(Model.open(path, device="cpu", threads=1))


ServeInThread = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve_in_thread() -> ServeInThread:
    """Serve given models from a thread of the test, under uvicorn; yields the address."""

    @contextmanager
    def serve(served: Sequence[tuple[str, SegmentationModel]], **settings: Any) -> Iterator[str]:
        repository = Repository(ServedModel(name, 1, model) for name, model in served)
        # No folder stands behind these models, so none is followed.
        app = create_app(Settings(**{"reload": False, **settings}), repository=repository)
        prefix = settings.get("root_path", "")
        config = uvicorn.Config(
            app, http=Connection, port=0, root_path=prefix, log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until = time.monotonic() + START_TIMEOUT_S
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT_S)
        assert not thread.is_alive()

    return serve


WaitUntilWaiting = Callable[..., None]


@pytest.fixture
def wait_until_waiting() -> WaitUntilWaiting:
    """Wait until so many images of a model wait for their run."""

    def wait(address: str, model: str, count: int) -> None:
        line = f'longskip_queue_depth{{model="{model}",version="1"}} '
        until = time.monotonic() + START_TIMEOUT_S
        with httpx.Client() as client:
            while time.monotonic() < until:
                depths = client.get(f"{address}/metrics").text.partition(line)[2].split()
                if depths and float(depths[0]) >= count:
                    return
                time.sleep(0.02)
        raise TimeoutError(f"{count} images of {model} never waited at the same time")

    return wait


class Collector:
    """An OTLP/HTTP receiver that parses what it gets."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                assert self.headers["content-type"] == "application/x-protobuf"
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture(scope="session")
def start_collector() -> Callable[[], AbstractContextManager[Collector]]:
    """Start a collector on a free port."""

    @contextmanager
    def start() -> Iterator[Collector]:
        started = Collector()
        try:
            yield started
        finally:
            started.close()

    return start
