"""Build the CPU service image, run it by docker-compose.yml, and check what it promises.

python docker/try_image.py
python docker/try_image.py --models my-models --model polyp --images my-images/*.png

Every line printed is a check that held. Exit status: 0 all held; 1 one did not, and the last lines
say which; 77 skipped, because no Docker engine can be used here (the reason is printed).
"""

import argparse
import hashlib
import http.client
import json
import mimetypes
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from composed import Composed, NotHealthy
from engine import Engine, NoEngine, find_engine

from contract.errors import LongskipError
from contract.model import Model
from contract.repository import find_model
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import read_image
from imaging.label_png import encode_label_png

SKIPPED = 77
IMAGE = "longskip-service:cpu"
LARGEST_BEYOND_BASE_MB = 600
HEALTHY_WITHIN_S = 180
STOPPED_WITHIN_S = 20
REQUEST_TIMEOUT_S = 120

# Run inside the container. Writing is tried, not asked about: root would be allowed anyway.
LOOK_AROUND = """
import importlib.util, json, os
def writable(folder):
    try:
        open(os.path.join(folder, "probe"), "w").close()
    except OSError:
        return False
    os.remove(os.path.join(folder, "probe"))
    return True
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines())
print(json.dumps({
    "user": os.getuid(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no new privileges": status["NoNewPrivs"].strip(),
    "root is writable": writable("/") or writable("/app"),
    "models are writable": writable("/models"),
    "/tmp is writable": writable("/tmp"),
    "not wanted": [name for name in ("torch", "pip", "training") if importlib.util.find_spec(name)],
}))
"""
ASK_FOR_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://longskip:8000/metrics", timeout=10).read().decode())
"""
FOUND_WHEN_RIGHT = {
    "user": 10001,
    "capabilities": 0,
    "no new privileges": "1",
    "root is writable": False,
    "models are writable": False,
    "/tmp is writable": True,
    "not wanted": [],
}


class CheckFailed(Exception):
    """The image does not keep a promise; the message says which, and what was found."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        engine = find_engine()
    except NoEngine as reason:
        print(f"docker-test skipped: {reason}", file=sys.stderr)
        return SKIPPED
    began_s = time.monotonic()
    try:
        engine.build("docker/service.Dockerfile", IMAGE, ["DEVICE=cpu"])
        check_size(engine)
        service = Composed(engine, options.models)
        with service:
            took_s = service.wait_until_healthy(HEALTHY_WITHIN_S)
            expect(True, f"healthy after {took_s:.0f} s")
            check_confinement(service)
            check_masks(service, options.models, options.model, options.images)
            check_metrics(service)
            check_stop(service)
        left = service.leftovers()
        expect(not left, f"left behind: {', '.join(left) or 'nothing'}")
    except (CheckFailed, NotHealthy, LongskipError) as failure:
        print(f"docker-test FAILED: {failure}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        print(f"docker-test FAILED: {command}\n{error.stderr or ''}", file=sys.stderr)
        return 1
    print(f"docker-test passed in {time.monotonic() - began_s:.0f} s; {IMAGE} is kept")
    return 0


def expect(condition: bool, finding: str) -> None:
    """Print what was found, or fail with it.

    Raises:
        CheckFailed: the condition does not hold.
    """
    if not condition:
        raise CheckFailed(finding)
    print(f"ok  {finding}", flush=True)


def check_size(engine: Engine) -> None:
    """Check that the image is small beyond its base."""
    beyond_mb = engine.bytes_beyond_base(IMAGE) / 1e6
    limit = f"{LARGEST_BEYOND_BASE_MB} MB allowed"
    expect(beyond_mb <= LARGEST_BEYOND_BASE_MB, f"{beyond_mb:.0f} MB beyond its base, {limit}")


def check_confinement(service: Composed) -> None:
    """Check that the process may do no more than it must, and that only this machine reaches it."""
    found = json.loads(service.python(LOOK_AROUND))
    for key, right in FOUND_WHEN_RIGHT.items():
        expect(found[key] == right, f"{key}: {found[key]}")
    memory_mb = service.state(".HostConfig.Memory") / 2**20
    expect(memory_mb > 0, f"memory limit: {memory_mb:.0f} MiB")
    bindings = service.state(".NetworkSettings.Ports").values()
    addresses = {binding["HostIp"] for port in bindings for binding in port or []}
    expect(addresses == {"127.0.0.1"}, f"published on: {', '.join(sorted(addresses))}")


def check_masks(service: Composed, models: Path, name: str, images: Sequence[Path]) -> None:
    """Check that the container answers what the model file answers outside, byte for byte."""
    expect(bool(images), f"images to send: {len(images)}")
    folder = find_model(models, name).parent
    opened: dict[str, Model] = {}
    for path in images:
        inside, sha256 = post_image(service.port, name, path)
        if sha256 not in opened:
            opened[sha256] = Model.open(file_of(sha256, folder), device="cpu")
        model = opened[sha256]
        pixels_hwc = read_image(path).pixels_hwc
        answer = model.segment(to_chw_float32(match_channels(pixels_hwc, model.spec.channels)))
        outside = encode_label_png(answer.labels, model.spec.palette)
        foreground = (answer.labels != 0).mean()
        expect(
            inside == outside,
            f"{path.name}: mask of {len(inside)} bytes inside, {len(outside)} outside, "
            f"{foreground:.1%} foreground, {model.path.name}",
        )


def check_metrics(service: Composed) -> None:
    """Check that Prometheus would find the service by the name that its configuration has."""
    told = service.python(ASK_FOR_METRICS)
    expect("longskip_ready 1.0" in told, "http://longskip:8000/metrics tells that it is ready")
    pairs = (line.rpartition(" ") for line in told.splitlines() if not line.startswith("#"))
    limit = {name: value for name, _, value in pairs}["longskip_memory_limit_bytes"]
    right = float(limit) == service.state(".HostConfig.Memory")
    expect(right, f"longskip_memory_limit_bytes, the container's limit: {limit}")


def file_of(sha256: str, folder: Path) -> Path:
    """Return the version's file that the container says it used; which one is its own choice.

    Raises:
        CheckFailed: there is no such file.
    """
    for path in sorted(folder.glob("*.onnx")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    raise CheckFailed(f"the answer came from a file of hash {sha256}, which is not in {folder}")


def post_image(port: int, model: str, path: Path) -> tuple[bytes, str]:
    """Return the label PNG that the service answers, and the hash of the file it came from.

    Raises:
        CheckFailed: it answered something else than 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    address = f"/v1/models/{model}/segment?format=png"
    connection.request("POST", address, path.read_bytes(), {"Content-Type": kind})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise CheckFailed(f"{path.name}: {answer.status} {body[:500].decode(errors='replace')}")
    return body, answer.headers["X-Longskip-Sha256"]


def check_stop(service: Composed) -> None:
    """Check that it ends at SIGTERM by itself, in time, with status 0."""
    began_s = time.monotonic()
    service.compose("stop")
    took_s = time.monotonic() - began_s
    status = service.state(".State.ExitCode")
    finding = f"stopped by SIGTERM in {took_s:.1f} s with status {status}"
    in_time = took_s <= STOPPED_WITHIN_S
    expect(status == 0 and in_time, finding if status == 0 else f"{finding}:\n{service.log()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    samples = sorted(path for path in Path("docs/samples").glob("*") if path.suffix == ".png")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository")
    parser.add_argument("--model", default="nuclei", help="the model to ask")
    parser.add_argument(
        "--images", type=Path, nargs="+", default=samples, help="default: docs/samples/*.png"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
