"""The servers side by side: how each is installed, started and asked."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from contract.errors import LongskipError
from contract.version import __version__

PEERS = Path(__file__).parent / "peers"
START_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
BOUNDARY = "longskip-bench"


class BenchFailed(LongskipError):
    """A server was not installed, did not start, or did not answer as it should."""


@dataclass(frozen=True)
class Request:
    """What is posted for one image, without what depends on the server's port."""

    headers: tuple[str, ...]
    body: bytes


@dataclass(frozen=True)
class Server:
    """One of those side by side.

    Attributes:
        name: as tables show it, as ``--only`` takes it, and in its files' names under ``peers/``:
            ``with_NAME.py``, run with MODEL and PORT, and ``NAME.txt``, its requirements.
        package: whose version is told.
        health: what a balancer would ask.
        path: where images are posted, with the query.
        as_tensor: the image goes as a tensor of bytes of the Open Inference Protocol.
    """

    name: str
    package: str
    health: str
    path: str = "/segment"
    as_tensor: bool = False

    @property
    def script(self) -> Path:
        """What starts it."""
        return PEERS / f"with_{self.name}.py"

    @property
    def requirements(self) -> Path:
        """What has to be installed for it, pinned."""
        return PEERS / f"{self.name}.txt"

    def request(self, png: bytes) -> Request:
        """Return what is posted for an image; all but Triton get the same multipart form."""
        return _tensor_request(png) if self.as_tensor else _form_request(png)

    def mask_png(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the mask's bytes out of an answer."""
        if not self.as_tensor:
            return body
        start = int(headers["Inference-Header-Content-Length"])
        (length,) = struct.unpack_from("<I", body, start)
        return body[start + 4 : start + 4 + length]


LONGSKIP = Server(
    "longskip", "longskip", path="/v1/models/{model}/segment?format=png", health="/v2/health/live"
)
SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        LONGSKIP,
        Server("fastapi", "fastapi", health="/health"),
        Server("litserve", "litserve", health="/health"),
        Server("bentoml", "bentoml", health="/livez"),
        Server("ray", "ray", health="/-/healthz"),
        Server(
            "triton",
            "nvidia-pytriton",
            health="/v2/health/live",
            path="/v2/models/segment/infer",
            as_tensor=True,
        ),
    )
}


def install(server: Server, environments: Path) -> Path:
    """Return the Python that has a server's pinned requirements; make it where it is not there.

    Raises:
        BenchFailed: they cannot be installed.
    """
    if server is LONGSKIP:
        return Path(sys.executable)
    requirements = server.requirements
    environment = environments / server.name
    python = environment / "bin" / "python"
    installed = environment / "installed.txt"
    if installed.is_file() and installed.read_text() == requirements.read_text():
        return python
    uv = str(Path(sys.executable).parent / "uv")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"installing {requirements.name} into {environment}", flush=True)
    make = [uv, "venv", "--quiet", "--clear", "--python", version, str(environment)]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)]
    for command in (make, fill):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise BenchFailed(f"{server.name} cannot be installed: {finished.stderr.strip()}")
    installed.write_text(requirements.read_text())
    return python


def package_version(server: Server, python: Path) -> str:
    """Return the version of a server's package in its environment."""
    if server is LONGSKIP:
        return __version__
    ask = f"from importlib.metadata import version; print(version({server.package!r}))"
    finished = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return finished.stdout.strip()


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        server: which.
        url: where images are posted.
        health_url: what a balancer would ask.
        session: id of the session of all its processes.
        ready_s: from its start to its first answer of an image.
    """

    server: Server
    url: str
    health_url: str
    session: int
    ready_s: float

    def ask(self, png: bytes) -> bytes:
        """Post one image over a connection of its own and return the mask's bytes."""
        request = self.server.request(png)
        headers = dict(line.split(": ", 1) for line in request.headers)
        asked = urllib.request.Request(self.url, data=request.body, headers=headers)
        # No proxy of the environment's stands between two processes on one machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=START_WITHIN_S) as answer:
            return self.server.mask_png(answer.read(), answer.headers)

    def memory_mb(self) -> float:
        """Return the memory of all its processes (PSS: pages that several share count once)."""
        return sum(_share_mb(pid) for pid in _processes_of(self.session))


@contextmanager
def started(
    server: Server,
    python: Path,
    model: Path,
    png: bytes,
    work: Path,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a server with one model file and end it, and all that it started, afterwards.

    Args:
        server: which.
        python: of its environment.
        model: ``<repository>/<name>/<version>/model.onnx``.
        png: asked until the first answer comes.
        work: folder for its log and its temporary files.
        settings: of the service, ``LONGSKIP_`` left out.

    Raises:
        BenchFailed: it does not answer in time.
    """
    port = _free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LONGSKIP_")}
    environment = inherited | {"TMPDIR": str(work)}
    if server is LONGSKIP:
        # The peers run model.onnx, so the service must, whatever that file prefers.
        own = {"MODELS": str(model.parents[2]), "PORT": str(port), "DEVICE": "cpu"}
        own |= {"PRECISION": "fp32", **(settings or {})}
        environment |= {f"LONGSKIP_{name}": value for name, value in own.items()}
        command = [str(python), "-m", "service"]
    else:
        command = [str(python), str(server.script), str(model.resolve()), str(port)]
    root = f"http://127.0.0.1:{port}"
    log = work / f"{server.name}.log"
    began_s = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        running = Running(
            server=server,
            url=root + server.path.format(model=model.parents[1].name),
            health_url=root + server.health,
            session=process.pid,
            ready_s=0.0,
        )
        _wait_for_answer(running, process, png, log)
        yield Running(**(vars(running) | {"ready_s": time.monotonic() - began_s}))
    finally:
        _end(process)


def _wait_for_answer(
    running: Running, process: "subprocess.Popen[bytes]", png: bytes, log: Path
) -> None:
    until_s = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < until_s:
        with suppress(OSError, urllib.error.URLError):
            running.ask(png)
            return
        time.sleep(0.02)
    tail = log.read_text(errors="replace")[-2000:]
    raise BenchFailed(f"{running.server.name} does not answer: {tail}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN_S)
    # What it left behind would disturb the next one.
    for pid in _processes_of(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _form_request(png: bytes) -> Request:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = head.encode() + png + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Request((f"Content-Type: multipart/form-data; boundary={BOUNDARY}",), body)


def _tensor_request(png: bytes) -> Request:
    tensor = struct.pack("<I", len(png)) + png
    parameters = {"binary_data_size": len(tensor)}
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    headers = (
        "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(head)}",
    )
    return Request(headers, head + tensor)


def _processes_of(session: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            if os.getsid(int(path.name)) == session:
                found.append(int(path.name))
    return found


def _share_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1e3
    return 0.0
