"""The service beside plain FastAPI, LitServe, BentoML, Ray Serve and Triton, in one run.

Every server is the real process on a free port, runs the same fp32 file with the same session
options, and takes and gives PNG; all but Triton are sent the same multipart form. They take turns:
one is started, asked, stopped, then the next. The raw loop is `session.run` on the decoded array,
batch 1, labels alone, with all cores to itself; a server shares them with the process that asks.
Peers are installed from their pinned requirements, each into an environment of its own.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.command import at_least
from benchmarks.machine import DISTURBED_SHARE
from benchmarks.serving.bars import judge
from benchmarks.serving.page import Page, markdown, write_page
from benchmarks.serving.servers import LONGSKIP, SERVERS, install, package_version
from benchmarks.serving.tiny import SIDE_PX, make_tiny_model
from benchmarks.serving.turn import Round, Task, take_round
from contract.errors import LongskipError
from contract.model import Model
from contract.repository import find_model
from training.data.phantoms import draw_phantom

EXAMPLES = """examples:
  python -m benchmarks.serving --out benchmarks/results/serving.md
  python -m benchmarks.serving --only longskip,fastapi --rounds 1 --seconds 3
"""
SAMPLE = Path("docs/samples/nuclei-1.png")
ENVIRONMENTS = Path.home() / ".cache" / "longskip" / "peers"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the page, write it; 0 where every answer was right."""
    asked = _command_line().parse_args(arguments)
    # So that the servers end with the bench where `timeout` or a job's end stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        page = measure(asked)
    except LongskipError as error:
        print(error, file=sys.stderr)
        return 1
    print(markdown(page))
    if asked.out is not None:
        write_page(page, asked.out)
        print(f"written to {asked.out}")
    return 0 if all(turn.alike for r in page.rounds for turn in r.turns.values()) else 1


def measure(asked: argparse.Namespace) -> Page:
    """Install the servers, take the rounds, and return what came out.

    Raises:
        BenchFailed: a server cannot be installed, started or asked.
    """
    pythons = {name: install(SERVERS[name], asked.environments) for name in asked.only}
    with tempfile.TemporaryDirectory(prefix="longskip-bench-") as folder:
        work = Path(folder)
        nuclei = Task(
            Model.open(find_model(asked.models, asked.model), device="cpu"), SAMPLE.read_bytes()
        )
        tiny = Task(Model.open(make_tiny_model(work / "tiny"), device="cpu"), _phantom_png())
        rounds: list[Round] = []
        for number in range(asked.rounds):
            print(f"round {number + 1} of {asked.rounds}", flush=True)
            rounds.append(take_round(pythons, nuclei, tiny, work, seconds=asked.seconds))
        height, width = nuclei.image_nchw.shape[2:]
    if max(r.others for r in rounds) > DISTURBED_SHARE:
        print("other work took much of the cores: do not keep these figures", file=sys.stderr)
    return Page(
        rounds,
        judge(rounds),
        {name: package_version(SERVERS[name], python) for name, python in pythons.items()},
        {
            "model": f"{asked.model}, sha256 {nuclei.model.sha256[:12]}, {nuclei.model.precision}",
            "image": f"{height}x{width}, tiny {SIDE_PX}x{SIDE_PX}",
            "seconds per stretch": f"{asked.seconds:g}",
        },
    )


def _phantom_png() -> bytes:
    """Return a phantom micrograph as an RGB PNG."""
    grey_hw = draw_phantom(np.random.default_rng(0), (SIDE_PX, SIDE_PX)).image_hw
    pixels = np.repeat(np.round(grey_hw * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return cv2.imencode(".png", pixels)[1].tobytes()


def _command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=list(SERVERS),
        metavar="NAME,NAME",
        help=f"servers (all: {','.join(SERVERS)}); {LONGSKIP.name} is always among them",
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="turns of each server (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each stretch of load (8)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="repository (models)")
    parser.add_argument("--model", default="nuclei", help="name (nuclei)")
    parser.add_argument(
        "--environments",
        type=Path,
        default=ENVIRONMENTS,
        help="folder of the peers' environments, kept for the next run (~/.cache/longskip/peers)",
    )
    parser.add_argument("--out", type=Path, help="write the page here, the picture beside it")
    return parser


def _names(text: str) -> list[str]:
    asked = [LONGSKIP.name, *(name for name in text.split(",") if name)]
    unknown = sorted(set(asked) - SERVERS.keys())
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no {', '.join(unknown)}; there are: {', '.join(SERVERS)}"
        )
    return list(dict.fromkeys(asked))


if __name__ == "__main__":
    sys.exit(main())
