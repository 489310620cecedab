"""What the service costs beside a raw `session.run` loop on the same model file.

The service is the real process on a free port: PNG in, label PNG out, posted by a load process
over kept-alive connections, one client and eight. The raw loop is `session.run` on the decoded
array, batch 1, labels only, with the service's session options. Both run `model.onnx` in fp32, also
where the service left to itself would take int8. They take turns in one run. The load and the
service share the cores that the raw loop has for itself.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.command import at_least, bench_parser, finish
from benchmarks.record import Record, Row, make_record
from benchmarks.turns import take_rounds
from contract.errors import LongskipError
from contract.model import Model
from contract.repository import find_model
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import DEFAULT_MAX_PIXELS, decode_image
from imaging.label_png import read_mask
from training.data.phantoms import draw_phantom

EXAMPLES = """examples:
  python -m benchmarks.service_overhead
  python -m benchmarks.service_overhead --models models --model nuclei --phantom 512
  python -m benchmarks.service_overhead --out benchmarks/results/service_overhead.md
"""
TARGET = 0.90
RAW = 0
CLIENTS = (1, 8)
SAMPLE = Path("docs/samples/nuclei-1.png")
PACKAGES = ("onnxruntime-gpu", "onnxruntime", "fastapi", "uvicorn", "numpy")
WARM_UP_S = 1.0
START_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0


class BenchFailed(LongskipError):
    """The service did not start, or did not answer as it should."""


@dataclass(frozen=True)
class Window:
    """What one turn gave: answers per second and each answer's time."""

    answers_per_s: float
    latencies_ms: tuple[float, ...]

    def quantile_ms(self, share: float) -> float:
        """Return the latency that this share of the answers stayed within."""
        return float(np.quantile(self.latencies_ms, share))


@contextmanager
def served(models: Path, device: str, log: Path) -> Iterator[tuple[str, int]]:
    """Start the service on a free port; yield its address and process id; end it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LONGSKIP_")}
    # The raw loop runs model.onnx, so the service must, whatever that file prefers.
    own = {"MODELS": str(models), "PORT": "0", "DEVICE": device, "PRECISION": "fp32"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env=kept | {f"LONGSKIP_{key}": value for key, value in own.items()},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(process, log), process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def raw_window(model: Model, image_chw: NDArray[np.float32], seconds: float) -> Window:
    """Run the model in a loop, as little around it as can be."""
    run, feed = model.session.run, {"image": image_chw[None]}
    until_s = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until_s:
        run(["labels"], feed)
    latencies_ms = []
    began_s = ended_s = time.perf_counter()
    while ended_s - began_s < seconds:
        before_s = ended_s
        run(["labels"], feed)
        ended_s = time.perf_counter()
        latencies_ms.append(1e3 * (ended_s - before_s))
    return Window(len(latencies_ms) / (ended_s - began_s), tuple(latencies_ms))


def service_window(url: str, image: Path, *, clients: int, seconds: float) -> Window:
    """Let a load process post for a while."""
    command = [sys.executable, "-m", "benchmarks.load", "--url", url, "--image", str(image)]
    command += ["--concurrency", str(clients), "--seconds", str(seconds)]
    command += ["--warm-up", str(WARM_UP_S)]
    counted = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if counted["failures"] or not counted["latencies_ms"]:
        raise BenchFailed(
            f"{len(counted['latencies_ms'])} answers came in {seconds} s, and failures with status "
            f"{sorted(set(counted['failures']))}; the service's log tells more"
        )
    return Window(counted["answers_per_s"], tuple(counted["latencies_ms"]))


Windows = dict[int, Window]
"""One turn of each number of clients; ``RAW`` is the raw loop's."""


def take_turns(
    model: Model, image_chw: NDArray[np.float32], url: str, image: Path, seconds: float
) -> Windows:
    """Run the raw loop, one client, eight clients, and say what each gave."""
    windows: Windows = {}
    for clients in (RAW, *CLIENTS):
        if clients == RAW:
            window = raw_window(model, image_chw, seconds)
        else:
            window = service_window(url, image, clients=clients, seconds=seconds)
        windows[clients] = window
        name = "raw loop" if clients == RAW else f"c={clients}"
        print(
            f"  {name:<9}{window.answers_per_s:8.2f} images/s   p50 "
            f"{window.quantile_ms(0.5):.1f} ms",
            flush=True,
        )
    return windows


def compare(turns: Sequence[Windows]) -> list[Row]:
    """Return one row per number of clients, and the latency of a single client."""
    ours_ms = [windows[1].quantile_ms(0.5) for windows in turns]
    raw_ms = [windows[RAW].quantile_ms(0.5) for windows in turns]
    ratios = tuple(theirs / own for own, theirs in zip(ours_ms, raw_ms, strict=True))
    latency = Row(
        name="c=1, p50 latency (ratio: raw / ours)",
        ours=statistics.median(ours_ms),
        reference=statistics.median(raw_ms),
        unit="ms",
        ratios=ratios,
        ratio=statistics.median(ratios),
        target=None,
    )
    return [*(_throughput(turns, clients) for clients in CLIENTS), latency]


def _throughput(turns: Sequence[Windows], clients: int) -> Row:
    ours = [windows[clients] for windows in turns]
    raw = [windows[RAW] for windows in turns]
    ratios = tuple(w.answers_per_s / r.answers_per_s for w, r in zip(ours, raw, strict=True))
    return Row(
        name=f"c={clients}, throughput",
        ours=statistics.median(w.answers_per_s for w in ours),
        reference=statistics.median(r.answers_per_s for r in raw),
        unit="images/s",
        ratios=ratios,
        ratio=statistics.median(ratios),
        target=TARGET,
        facts={
            "p50 ms": statistics.median(w.quantile_ms(0.5) for w in ours),
            "p95 ms": statistics.median(w.quantile_ms(0.95) for w in ours),
        },
    )


def measure(asked: argparse.Namespace) -> Record:
    """Start the service, take turns, and return what came out."""
    with tempfile.TemporaryDirectory(prefix="longskip-bench-") as folder:
        image = _draw(Path(folder) / "image.png", asked.phantom) if asked.phantom else asked.image
        model = Model.open(find_model(asked.models, asked.model), device=asked.device)
        image_chw = _decoded(image, model.spec.channels)
        image_bytes = image.stat().st_size
        with served(asked.models, asked.device, Path(folder) / "service.log") as (address, pid):
            url = f"{address}/v1/models/{asked.model}/segment"
            same = _answers_alike(model, image_chw, url, image)
            rounds = take_rounds(
                lambda: take_turns(model, image_chw, url, image, asked.seconds),
                repeats=asked.repeats,
                patience=asked.patience,
                own_processes=(pid,),
            )
    return make_record(
        "service against a raw session.run loop",
        settings={
            "model": f"{asked.model}/{model.path.parent.name}, sha256 {model.sha256[:12]}",
            "parameters": model.spec.net.parameters,
            "precision": model.precision,
            "provider": model.provider,
            "image": "x".join(map(str, image_chw.shape[1:])),
            "bytes of it": image_bytes,
            "channels": model.spec.channels,
            "seconds per turn": asked.seconds,
        },
        rows=compare([r.turn for r in rounds]),
        checks={"both sides give the same labels": same},
        others=max(r.others for r in rounds),
        packages=PACKAGES,
    )


def _draw(path: Path, size_px: int) -> Path:
    """Write a phantom micrograph as an RGB PNG."""
    grey_hw = draw_phantom(np.random.default_rng(0), (size_px, size_px)).image_hw
    pixels = np.repeat(np.round(grey_hw * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def _decoded(image: Path, channels: int) -> NDArray[np.float32]:
    pixels_hwc = decode_image(image.read_bytes(), max_pixels=DEFAULT_MAX_PIXELS).pixels_hwc
    return to_chw_float32(match_channels(pixels_hwc, channels))


def _answers_alike(model: Model, image_chw: NDArray[np.float32], url: str, image: Path) -> bool:
    """Ask the service for two answers and compare them with the raw run's labels."""
    (labels_hw,) = model.session.run(["labels"], {"image": image_chw[None]})
    return all(np.array_equal(read_mask(_post(url, image)), labels_hw[0]) for _ in range(2))


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the start-up lines and read the address out of them."""
    until_s = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < until_s:
        found = re.search(r"page +(http://\S+)/", log.read_text())
        if found is not None:
            return found.group(1)
        time.sleep(0.1)
    raise BenchFailed(f"the service did not start: {log.read_text()}")


def _post(url: str, image: Path) -> bytes:
    request = urllib.request.Request(
        f"{url}?format=png", data=image.read_bytes(), headers={"Content-Type": "image/png"}
    )
    # No proxy of the environment's stands between two processes on one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=START_WITHIN_S) as answer:
        return bytes(answer.read())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it."""
    parser = bench_parser("service_overhead", doc=__doc__, examples=EXAMPLES)
    parser.add_argument("--models", type=Path, default=Path("models"), help="repository (models)")
    parser.add_argument("--model", default="nuclei", help="name (nuclei)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="(cpu)")
    parser.add_argument("--image", type=Path, default=SAMPLE, help=f"PNG to send ({SAMPLE})")
    parser.add_argument(
        "--phantom", type=at_least(1), metavar="PX", help="send a phantom of this side"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a turn (10)")
    asked = parser.parse_args(arguments)
    if asked.seconds <= 0:
        parser.error("--seconds must be above 0")
    # So that the service ends with the bench where `timeout` or a job's end stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return finish(measure(asked), asked.out)


if __name__ == "__main__":
    sys.exit(main())
