"""Start two replicas on a local Ray, put load on them, kill one, and check what clients saw.

    python docker/ray/try_replicas.py
    python docker/ray/try_replicas.py --models my-models --model polyp --image my-image.png

Every line printed is a check that held. Exit status: 0 all held; 1 one did not. It runs in a
virtual environment of its own, see serve_app.py.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Of all processes that Ray starts; the proxy reads the second before it answers anybody.
os.environ |= {
    "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "again:proxy_layers",
    "RAY_USAGE_STATS_ENABLED": "0",
}
sys.path[:0] = [str(ROOT), str(HERE)]

import httpx  # noqa: E402
import ray  # noqa: E402
from ray import serve  # noqa: E402

from contract.model import Model  # noqa: E402
from contract.repository import find_model  # noqa: E402
from imaging.channels import match_channels, to_chw_float32  # noqa: E402
from imaging.decode import read_image  # noqa: E402
from imaging.label_png import encode_label_png  # noqa: E402
from service.client import Client, ServiceError  # noqa: E402

CLIENTS = 8
LOAD_S = 20.0
KILL_AFTER_S = 6.0
BACK_WITHIN_S = 120.0
APP = f"try{os.getpid()}"


class CheckFailed(Exception):
    """A promise is not kept; the message says which, and what was found."""


def expect(condition: bool, finding: str) -> None:
    """Print what was found, or fail with it."""
    if not condition:
        raise CheckFailed(finding)
    print(f"ok  {finding}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks and return the exit status."""
    options = _parser().parse_args(arguments)
    os.environ["LONGSKIP_MODELS"] = str(options.models.resolve())
    from serve_app import REPLICAS, longskip

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    ray.init(num_cpus=REPLICAS + 1, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(longskip, name=APP)
        check_replicas(address, options, REPLICAS)
    except CheckFailed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        serve.shutdown()
        ray.shutdown()
    return 0


def check_replicas(address: str, options: argparse.Namespace, replicas: int) -> None:
    """Check everything about two running replicas."""
    first = replica_pids()
    expect(len(first) == replicas, f"{replicas} replicas, processes {sorted(first)}")
    right = mask_of(address, options)
    expect(
        bool(right), f"the mask of {options.image.name} is that of the model file, byte for byte"
    )
    seen = Counter[str]()
    raw = [lambda: ask_once(address, options, right), *[lambda: ask(address, options, right)] * 2]
    threads = [
        threading.Thread(target=repeat, args=(raw[n % len(raw)], seen)) for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(KILL_AFTER_S)
    before = seen.total()
    lost = min(first)
    os.kill(lost, signal.SIGKILL)
    metrics = Counter[int]()
    while any(thread.is_alive() for thread in threads):
        metrics[httpx.get(f"{address}/metrics", timeout=60, trust_env=False).status_code] += 1
        time.sleep(0.2)
    print(f"    {dict(seen)}; {before} of them before process {lost} was killed")
    expect(seen["right"] > before, "answers went on after one was killed")
    expect(seen["wrong"] == 0, "no wrong answer")
    other = {kind for kind in seen if kind not in ("right", "503", "connection")}
    expect(not other, "nothing but right answers and failures after which one asks again")
    expect(seen["gave up"] == 0, "the service's own client saw none of it")
    expect(set(metrics) <= {200, 503}, f"/metrics went on meanwhile: {dict(metrics)}")
    began_s = time.monotonic()
    while len(replica_pids() - {lost}) < replicas or expositions(address) < replicas:
        if time.monotonic() - began_s > BACK_WITHIN_S:
            raise CheckFailed(f"replicas after {BACK_WITHIN_S:g} s: {replica_pids()}")
        time.sleep(0.5)
    expect(True, f"{replicas} replicas again, and /metrics tells of both")
    refused = httpx.post(f"{address}/v2/repository/models/{options.model}/unload", trust_env=False)
    expect(refused.status_code == 403, "unloading in one replica of several is refused")


def repeat(ask: Callable[[], str], seen: Counter[str]) -> None:
    """Ask until the time is up, and count what came."""
    until = time.monotonic() + LOAD_S
    while time.monotonic() < until:
        seen[ask()] += 1


def ask_once(address: str, options: argparse.Namespace, right: bytes) -> str:
    """Ask as a client does that does not ask again."""
    url = f"{address}/v1/models/{options.model}/segment?format=png"
    try:
        answer = httpx.post(url, content=options.image.read_bytes(), timeout=60, trust_env=False)
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        time.sleep(0.2)
        return "connection"
    if answer.status_code == 200:
        return "right" if answer.content == right else "wrong"
    if answer.status_code == 503 and answer.headers.get("retry-after", "").isdecimal():
        time.sleep(float(answer.headers["retry-after"]))
        return "503"
    return f"{answer.status_code} {answer.text[:80]}"


def ask(address: str, options: argparse.Namespace, right: bytes) -> str:
    """Ask with the service's own client, which asks again by itself."""
    try:
        with Client(address) as client:
            answer = client.segment(options.image, model=options.model, format="png")
    except ServiceError as error:
        print(f"    the client gave up: {error}")
        return "gave up"
    return "right" if answer.content == right else "wrong"


def mask_of(address: str, options: argparse.Namespace) -> bytes:
    """Return the mask that the file itself gives, once a replica has said that it is the same."""
    with Client(address) as client:
        answer = client.segment(options.image, model=options.model, format="png")
    folder = find_model(options.models, options.model).parent
    opened = [Model.open(path, device="cpu", threads=1) for path in sorted(folder.glob("*.onnx"))]
    (model,) = (model for model in opened if model.sha256 == answer.sha256)
    pixels_hwc = read_image(options.image).pixels_hwc
    labels = model.segment(to_chw_float32(match_channels(pixels_hwc, model.spec.channels))).labels
    right = encode_label_png(labels, model.spec.palette)
    return right if right == answer.content else b""


def replica_pids() -> set[int]:
    """Return the processes of this run's replicas, by the title that Ray gives them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if title.startswith(f"ray::ServeReplica:{APP}:".encode()):
            found.add(int(folder.name))
    return found


def expositions(address: str) -> int:
    """Return how many replicas ``/metrics`` tells of."""
    text = httpx.get(f"{address}/metrics", timeout=60, trust_env=False).text
    return sum(line.startswith("longskip_ready{") for line in text.splitlines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--model", default="nuclei", help="the model to ask")
    parser.add_argument("--image", type=Path, default=ROOT / "docs/samples/nuclei-1.png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
