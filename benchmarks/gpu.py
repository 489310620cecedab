"""The service on a GPU beside a loop that only runs the model, and what each way of running brings.

    python -m benchmarks.gpu --device cuda --out benchmarks/results/gpu.md
    python -m benchmarks.gpu --device cpu --repeats 1 --seconds 1

The raw loop fills arrays that stay on the device, runs, and fetches the labels, all images in one
batch; it neither decodes nor waits. The service gets PNGs from another process. Every round runs
each side once. Without a GPU `--device cuda` ends with what is missing, and no figure.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.command import at_least, bench_parser, finish
from benchmarks.record import Record, Row, make_record
from benchmarks.serving.servers import LONGSKIP, Running, started
from benchmarks.serving.visit import Window, window
from benchmarks.turns import Round, take_rounds
from contract.errors import LongskipError
from contract.feeds import whole_feeds
from contract.gpu.kept import KeptRuns
from contract.gpu.use import GpuUse
from contract.model import Model
from contract.repository import find_model
from contract.run import empty_answer
from contract.session import CPU_PROVIDER, TENSORRT_PROVIDER, Device
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import DEFAULT_MAX_PIXELS, decode_image
from imaging.label_png import read_mask

SAMPLE = Path("docs/samples/nuclei-1.png")
EXAMPLES = """examples:
  python -m benchmarks.gpu --device cuda --out benchmarks/results/gpu.md
  python -m benchmarks.gpu --device cuda --size 512 --clients 1,8,64 --batch 4
"""
# As much of the raw loop's rate as the service is to reach.
TARGET = 0.9
PACKAGES = ("onnxruntime-gpu", "onnxruntime", "numpy", "fastapi")


@dataclass(frozen=True)
class Way:
    """One way of running a model file.

    Attributes:
        name: as the table shows it.
        device: as in ``Model.open``.
        file: beside ``model.onnx``, or itself.
        cuda_graphs: record runs.
    """

    name: str
    device: Device
    file: str = "model.onnx"
    cuda_graphs: bool = False


WAYS: dict[str, tuple[Way, ...]] = {
    "cpu": (
        Way("fp32", "cpu"),
        Way("fp16", "cpu", "model.fp16.onnx"),
        Way("int8", "cpu", "model.int8.onnx"),
    ),
    "cuda": (
        Way("fp32", "cuda"),
        Way("fp16", "cuda", "model.fp16.onnx"),
        Way("fp32, CUDA graphs", "cuda", cuda_graphs=True),
        Way("fp16, CUDA graphs", "cuda", "model.fp16.onnx", cuda_graphs=True),
        Way("fp32, TensorRT", "tensorrt"),
        Way("fp16, TensorRT", "tensorrt", "model.fp16.onnx"),
    ),
}


@dataclass(frozen=True)
class Turn:
    """Images per second of one round.

    Attributes:
        raw: of the raw loop, by the way's name and the batch.
        service: by most images in a batch and the number of clients.
    """

    raw: Mapping[tuple[str, int], float]
    service: Mapping[tuple[int, int], Window]


@dataclass(frozen=True)
class Bench:
    """What all rounds share.

    Attributes:
        device: that was asked for.
        models: opened, by the way's name; the first is that of the service.
        image_chw: raw intensities.
        png: the same as a file.
        batch: most images in one run.
        clients: numbers of clients that ask at one time.
        seconds: of each stretch.
    """

    device: str
    models: Mapping[str, Model]
    image_chw: NDArray[np.float32]
    png: bytes
    batch: int
    clients: Sequence[int]
    seconds: float

    @property
    def first(self) -> Model:
        """The model of the first way."""
        return next(iter(self.models.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it; 0 where the service gave the raw loop's labels."""
    parser = bench_parser("gpu", doc=__doc__, examples=EXAMPLES)
    parser.add_argument("--device", choices=list(WAYS), default="cuda", help="(cuda)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="repository (models)")
    parser.add_argument("--model", default="nuclei", help="name (nuclei)")
    parser.add_argument("--size", type=at_least(1), default=256, help="sides of the image (256)")
    parser.add_argument("--batch", type=at_least(2), default=8, help="most images in a run (8)")
    parser.add_argument("--clients", default="1,8,32", help="at one time (1,8,32)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each stretch (8)")
    asked = parser.parse_args(arguments)
    clients = tuple(int(number) for number in asked.clients.split(","))
    side_px, path = asked.size, find_model(asked.models, asked.model)
    try:
        models = open_models(WAYS[asked.device], path, side_px=side_px, batch=asked.batch)
        png, image_chw = read_sample(next(iter(models.values())).spec.channels, side_px)
        bench = Bench(asked.device, models, image_chw, png, asked.batch, clients, asked.seconds)
        with tempfile.TemporaryDirectory(prefix="longskip-bench-") as work:
            alike = labels_alike(bench, Path(work))
            rounds = take_rounds(
                lambda: take_turn(bench, Path(work)),
                repeats=asked.repeats,
                patience=asked.patience,
            )
    except LongskipError as error:
        print(error, file=sys.stderr)
        return 1
    return finish(record_of(bench, rounds, alike=alike), asked.out)


def open_models(ways: Sequence[Way], path: Path, *, side_px: int, batch: int) -> dict[str, Model]:
    """Open a model in each way that there is a file for.

    Raises:
        LongskipError: the first cannot be used. A later one is told and left out.
    """
    models: dict[str, Model] = {}
    for way in ways:
        file = path.with_name(way.file)
        if not file.is_file():
            print(f"{way.name} is left out: there is no {way.file}")
            continue
        use = GpuUse(((side_px, side_px),), batch, cuda_graphs=way.cuda_graphs)
        try:
            model = Model.open(file, device=way.device, gpu=use)
            model.warm_up(use.warm_shapes_hw, max_batch=batch)
        except LongskipError as error:
            if not models:
                raise
            print(f"{way.name} is left out: {error}")
            continue
        models[way.name] = model
    return models


def read_sample(channels: int, side_px: int) -> tuple[bytes, NDArray[np.float32]]:
    """Return a sample of this size as a PNG, and as the service decodes it, ``[C, H, W]``."""
    whole = cv2.imread(str(SAMPLE))
    png = cv2.imencode(".png", cv2.resize(whole, (side_px, side_px)))[1].tobytes()
    pixels_hwc = decode_image(png, max_pixels=DEFAULT_MAX_PIXELS).pixels_hwc
    return png, to_chw_float32(match_channels(pixels_hwc, channels))


def take_turn(bench: Bench, work: Path) -> Turn:
    """Run every side once."""
    raw = {
        (name, batch): raw_rate(model, batch_of(bench, batch), bench.seconds)
        for name, model in bench.models.items()
        for batch in (1, bench.batch)
    }
    service = {}
    for most in (1, bench.batch):
        with service_of(bench, work, most) as running:
            for clients in bench.clients:
                found = window(running, bench.png, work, clients=clients, seconds=bench.seconds)
                service[most, clients] = found
    return Turn(raw, service)


def batch_of(bench: Bench, batch: int) -> NDArray[np.float32]:
    return np.repeat(bench.image_chw[None], batch, axis=0)


def raw_rate(model: Model, image_nchw: NDArray[np.float32], seconds: float) -> float:
    """Return the images per second of a loop that fills, runs and fetches."""
    feeds = whole_feeds(
        model.spec,
        {"image": image_nchw},
        takes_statistics=model.takes_statistics,
        own_statistics=model.provider == TENSORRT_PROVIDER,
    )
    answers = {"labels": empty_answer(model.spec, "labels", image_nchw.shape)}
    if model.on_gpu is not None:  # warming up has kept its arrays
        run = model.on_gpu.run
    else:
        kept = KeptRuns(model.session, device="cpu")
        kept.keep(feeds, answers)
        run = kept.run
    run(feeds, answers, ort.RunOptions())
    images, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        run(feeds, answers, ort.RunOptions())
        images += len(image_nchw)
    return images / took_s


def service_of(bench: Bench, work: Path, most: int) -> AbstractContextManager[Running]:
    """Start the service on the first way's file."""
    side_px = bench.image_chw.shape[-1]
    settings = {"DEVICE": bench.device, "MAX_BATCH": str(most)}
    settings |= {"WARM_SHAPES": f"{side_px}x{side_px}"}
    return started(
        LONGSKIP, Path(sys.executable), bench.first.path, bench.png, work, settings=settings
    )


def labels_alike(bench: Bench, work: Path) -> bool:
    """Whether the service answers as the model does that the raw loop runs."""
    labels = bench.first.run(bench.image_chw[None])["labels"][0]
    with service_of(bench, work, bench.batch) as running:
        return np.array_equal(read_mask(running.ask(bench.png)), labels)


def record_of(bench: Bench, rounds: Sequence[Round[Turn]], *, alike: bool) -> Record:
    """Return the table."""
    turns = [one.turn for one in rounds]
    first, most = next(iter(bench.models)), bench.batch

    def row(
        name: str,
        ours: Callable[[Turn], float],
        reference: Callable[[Turn], float],
        target: float | None = None,
        **facts: float,
    ) -> Row:
        pairs = [(ours(turn), reference(turn)) for turn in turns]
        ratios = tuple(one / other for one, other in pairs)
        one, other = (float(np.median(side)) for side in zip(*pairs, strict=True))
        ratio = float(np.median(ratios))
        return Row(name, one, other, "images/s", ratios, ratio, target, facts)

    def answered(most: int, clients: int) -> Callable[[Turn], float]:
        return lambda turn: turn.service[most, clients].answers_per_s

    def raw(name: str, batch: int) -> Callable[[Turn], float]:
        return lambda turn: turn.raw[name, batch]

    rows = []
    for clients in bench.clients:
        batch, target = (1, None) if clients == 1 else (most, TARGET)
        p50 = float(np.median([turn.service[most, clients].quantile_ms(0.5) for turn in turns]))
        name = f"service, {clients} clients, against the raw loop, batch {batch}"
        rows.append(
            row(name, answered(most, clients), raw(first, batch), target, **{"p50 ms": p50})
        )
    for clients in bench.clients:
        name = f"service, {clients} clients, batches up to {most} against none"
        rows.append(row(name, answered(most, clients), answered(1, clients)))
    rows.append(row(f"raw loop, batch {most} against 1", raw(first, most), raw(first, 1)))
    for name in list(bench.models)[1:]:
        for batch in (1, most):
            title = f"raw loop, {name} against {first}, batch {batch}"
            rows.append(row(title, raw(name, batch), raw(first, batch)))
    return make_record(
        "the service beside a raw loop, and ways of running",
        settings={
            "runs on": bench.first.provider,
            **gpu_name(bench.first),
            "model": f"{bench.first.spec.name}, sha256 {bench.first.sha256[:12]}",
            "image": "x".join(map(str, bench.image_chw.shape[1:])),
            "seconds per stretch": bench.seconds,
        },
        rows=rows,
        checks={"the service gives the raw loop's labels": alike},
        others=max(one.others for one in rounds),
        packages=PACKAGES,
    )


def gpu_name(model: Model) -> dict[str, str]:
    """Return what the driver's own tool calls the GPU, where the model runs on one."""
    if model.provider == CPU_PROVIDER:
        return {}
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"GPU": finished.stdout.strip().replace("\n", "; ")}


if __name__ == "__main__":
    sys.exit(main())
