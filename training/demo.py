"""``python -m training demo``: the whole way on phantoms, with and without long skips.

Makes a data set, fits a U-Net and its twin, exports both, starts the service as a process, sends
held-out images through REST, and reports what it measured.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.errors import LongskipError
from contract.metrics import case_scores
from contract.model import Model
from imaging.label_png import read_mask
from imaging.overlay import display_rgb
from training.data.folder import Case, FolderDataset, load_image, load_mask, open_folder
from training.data.phantoms_command import main as phantoms
from training.data.split import read_split
from training.fit.command import main as fit
from training.graph.command import main as export
from training.score.pictures import Picture, side_by_side, tint, write_picture

EXAMPLES = """examples:
  python -m training demo
  python -m training demo --out /tmp/demo --epochs 20
"""
ARMS = {"with-skips": "concat", "without-skips": "none"}
FIT_SETTINGS = (
    "--net.widths=[12,24,48,96]",
    "--data.patch=[128,128]",
    "--data.batch_size=8",
    "--data.workers=1",
    "--data.val_fraction=0.1",
    "--data.test_fraction=0.2",
    "--optimiser.lr=0.004",
    "--seed=0",
)
READY_WITHIN_S = 60
SHOWN_CASES = 4


class DemoFailed(LongskipError):
    """A step of the demo did not do what it should."""


@dataclass(frozen=True)
class ArmResult:
    """One arm's figures on the held-out images, through REST."""

    name: str
    long_skips: str
    dice: float
    parameters: int
    milliseconds: float
    labels: dict[str, np.ndarray]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of ``demo``."""
    parser = argparse.ArgumentParser(
        prog="python -m training demo",
        description=__doc__.split("\n", 1)[1],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=None, help="folder (next free demo/<number>)")
    parser.add_argument("--count", type=int, default=60, help="phantom pictures (60)")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of each arm (16)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run all steps and print the table."""
    settings = build_parser().parse_args(list(arguments))
    out = settings.out if settings.out is not None else next_free(Path("demo"))
    started_s = time.monotonic()
    print(f"1/4  phantoms -> {out / 'phantoms'}", flush=True)
    phantoms(["--out", str(out / "phantoms"), "--count", str(settings.count), "--seed", "7"])
    for index, (name, long_skips) in enumerate(ARMS.items(), start=2):
        print(f"{index}/4  fit and export, long skips: {long_skips}", flush=True)
        run = out / "runs" / name
        fit(
            [
                f"--data.root={out / 'phantoms'}",
                f"--net.long_skips={long_skips}",
                f"--trainer.max_epochs={settings.epochs}",
                f"--trainer.check_val_every_n_epoch={max(1, settings.epochs // 3)}",
                f"--out={run}",
                *FIT_SETTINGS,
            ]
        )
        export([str(run), "--name", name, "--to", str(out / "models")])
    print("4/4  serve both and send the held-out images through REST", flush=True)
    dataset = open_folder(out / "phantoms", progress=False)
    split = read_split(out / "runs" / "with-skips" / "split.json", dataset)
    cases = dataset.select(split.test)
    with served(out / "models", out / "service.log") as address:
        results = [ask(address, name, cases, dataset, out / "models") for name in ARMS]
    picture = out / "side-by-side.png"
    write_picture(picture, draw(cases[:SHOWN_CASES], dataset, results))
    text = table(results, images=len(cases))
    (out / "table.txt").write_text(text + "\n")
    print(f"\n{text}\n\npicture: {picture}\nin all {time.monotonic() - started_s:.0f} s")
    return 0


def next_free(folder: Path) -> Path:
    """Return ``folder/<number>`` with the first number that is not taken."""
    number = 1
    while (folder / str(number)).exists():
        number += 1
    return folder / str(number)


@contextmanager
def served(models: Path, log: Path) -> Iterator[str]:
    """Start the service on ``models`` on a free port; yield its address; end it.

    Args:
        models: the model repository.
        log: file for what the service prints.

    Raises:
        DemoFailed: it did not become ready.
    """
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env={**os.environ, "LONGSKIP_MODELS": str(models), "LONGSKIP_PORT": "0"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(
    address: str, name: str, cases: Sequence[Case], dataset: FolderDataset, models: Path
) -> ArmResult:
    """Send each case to one model and score what comes back."""
    labels: dict[str, np.ndarray] = {}
    seconds, dice = [], []
    _post(address, name, cases[0].image)  # the first run of a shape allocates; not counted
    for case in cases:
        start = time.perf_counter()
        answer = _post(address, name, case.image)
        seconds.append(time.perf_counter() - start)
        labels[case.stem] = read_mask(answer)
        truth = load_mask(case, dataset.spec)
        scores = case_scores(labels[case.stem], truth, n_classes=len(dataset.classes), ignore=255)
        dice.append(scores[1].dice)
    model = Model.open(models / name / "1" / "model.onnx", prove=False)
    return ArmResult(
        name=name,
        long_skips=", ".join(model.spec.net.long_skips),
        dice=float(np.nanmean(dice)),
        parameters=model.spec.net.parameters,
        milliseconds=1000 * statistics.median(seconds),
        labels=labels,
    )


def draw(cases: Sequence[Case], dataset: FolderDataset, results: Sequence[ArmResult]) -> Picture:
    """Return image, truth and each arm's answer, one row per case."""
    palette = [c.colour for c in dataset.classes]
    rows = []
    for case in cases:
        shown = display_rgb(load_image(case, dataset.channels))
        answers = [tint(shown, result.labels[case.stem], palette) for result in results]
        truth = tint(shown, load_mask(case, dataset.spec), palette)
        rows.append((case.stem, [shown, truth, *answers]))
    titles = ["image", "truth", *(f"{r.name}  Dice {r.dice:.3f}" for r in results)]
    return side_by_side(rows, titles=titles)


def table(results: Sequence[ArmResult], *, images: int) -> str:
    """Return the figures as aligned plain text."""
    lines = [f"{'model':<15}{'long skips':<28}{'Dice':>7}{'parameters':>13}{'ms':>8}"]
    lines += [
        f"{r.name:<15}{r.long_skips:<28}{r.dice:>7.4f}{r.parameters:>13,}{r.milliseconds:>8.1f}"
        for r in results
    ]
    lines.append(
        f"mean Dice over {images} held-out images; ms: median of one REST call, PNG in, PNG out"
    )
    return "\n".join(lines)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait for the start-up lines and read the address out of them."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        found = re.search(r"page\s+(http://\S+)/\s", log.read_text())
        if found is not None:
            return found.group(1)
        time.sleep(0.1)
    raise DemoFailed(f"the service did not become ready; what it said is in {log}")


def _post(address: str, name: str, image: Path) -> bytes:
    request = urllib.request.Request(
        f"{address}/v1/models/{name}/segment?format=png",
        data=image.read_bytes(),
        headers={"Content-Type": "image/png"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        raise DemoFailed(f"the service answered {error.code}: {_detail(error)}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error).get("detail", ""))
    except ValueError:
        return ""
