"""Soak the real service: thousands of mixed requests, a tenth of them hostile, while files change.

The service is a process of its own on a copy of the models. Every answer is compared with what the
model file that its headers name gives by itself. Meanwhile files are replaced, cut off and put
back, versions come and go, clients leave before their answer, heads come drop by drop, uploads stay
half open and answers unread. At the end nothing may wait or be held that was not at the beginning.
LONGSKIP_SHARED may name a folder with data/hostile, whose files are sent too.
"""

import argparse
import http.client
import os
import re
import resource
import shutil
import signal
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

from benchmarks.command import at_least
from benchmarks.soak.attacks import (
    giant_head,
    half_open_uploads,
    slow_heads,
    unread_answers,
)
from benchmarks.soak.cases import Case, draw_image, good_case, hostile_cases, segment_case
from benchmarks.soak.swaps import Swaps, put
from benchmarks.soak.traffic import Client, Draw, Tally, ask
from benchmarks.soak.truth import Truth
from benchmarks.soak.vitals import Pulse, Vitals, vitals_of
from contract.metadata import read_metadata
from contract.repository import find_model, list_models
from contract.spec import ModelSpec

EXAMPLES = """examples:
  python -m benchmarks.soak
  python -m benchmarks.soak --requests 500 --half-open 50
  LONGSKIP_SHARED=../shared nice python -m benchmarks.soak --requests 100000
"""
HOSTILE_SHARE = 0.1
IMAGES = 40
START_WITHIN_S = 120.0
FEW = 8  # files or threads
RUSH_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """All that is judged at the end.

    Attributes:
        tally: of all requests.
        swaps: changes of the repository.
        before: the process when it had answered one request of each kind.
        rush: after as many half-open uploads at once as will come again.
        largest: after its largest request.
        after: when all was over.
        peak_rss_mb: between.
        waiting: images in a queue at the end.
        health: waits in ms.
        health_failures: times that health did not answer.
        attacks: what was seen of each.
        exit_status: after SIGTERM.
        growth_max: by which share memory may have grown.
    """

    tally: Tally
    swaps: int
    before: Vitals
    rush: Vitals
    largest: Vitals
    after: Vitals
    peak_rss_mb: float
    waiting: float
    health: Sequence[float]
    health_failures: int
    attacks: Sequence[str]
    exit_status: int
    growth_max: float

    def failures(self) -> list[str]:
        """Return what must not be."""
        tally = self.tally
        found = [f"{kind}: {fault} ({n} times)" for (kind, fault), n in tally.faults.items()]
        found += [f"{n} answers {s}" for s, n in tally.statuses().items() if s >= 500]
        moments = {"a rush": self.rush, "the largest request": self.largest, "all": self.after}
        for name, then in moments.items():
            growth = then.rss_mb / self.before.rss_mb - 1
            if growth > self.growth_max:
                found.append(f"memory grew by {growth:.1%} until after {name}")
        for what in ("threads", "files"):
            grown = getattr(self.after, what) - getattr(self.before, what)
            if grown > FEW:
                found.append(f"{grown} more {what} than at the beginning")
        if self.waiting:
            found.append(f"{self.waiting:g} images wait that nobody asked for any more")
        if self.health_failures:
            found.append(f"{self.health_failures} times health did not answer")
        if self.exit_status:
            found.append(f"the service ended with status {self.exit_status}")
        return found


@contextmanager
def served(models: Path, log: Path) -> Iterator[tuple[tuple[str, int], "subprocess.Popen[bytes]"]]:
    """Start the service on a free port; it is ended by its id on the way out."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LONGSKIP_")}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env=kept | {"LONGSKIP_MODELS": str(models), "LONGSKIP_PORT": "0"},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        until_s = time.monotonic() + START_WITHIN_S
        while (found := re.search(r"page +http://([\d.]+):(\d+)/", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"the service did not start: {log.read_text()}")
            time.sleep(0.1)
        yield (found[1], int(found[2])), process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def soak(asked: argparse.Namespace, folder: Path) -> Outcome:
    """Run it all and return what came out."""
    random = np.random.default_rng(asked.seed)
    files = _pool(asked.models, folder / "files")
    names = list_models(asked.models)
    root = folder / "models"
    for name in names:
        put(files[0], root / name / "1")
    truth = Truth(files)
    images = [draw_image(random) for _ in range(IMAGES)]
    hostile = hostile_cases(names[0], images[0], truth, _more_hostile())

    def draw(random: np.random.Generator) -> Case:
        if random.random() < HOSTILE_SHARE:
            return hostile[random.integers(len(hostile))]
        image = images[random.integers(len(images))]
        return good_case(str(random.choice(names)), image, truth, random)

    tally = Tally()
    with served(root, asked.log or folder / "service.log") as (address, process):
        _visit(address, hostile, tally)
        # Threads and working memory for as many at a time as will come are no leak.
        _run_all(_clients(address, draw, asked, tally, requests=asked.requests // 10, salt=0))
        time.sleep(asked.settle)
        before = vitals_of(process.pid)
        with half_open_uploads(address, names[0], asked.half_open):
            time.sleep(RUSH_S)
        time.sleep(asked.settle)
        rush = vitals_of(process.pid)
        large = _large_image(asked.largest)
        _visit(address, [segment_case(names[0], large, truth)], tally)
        time.sleep(asked.settle)
        largest = vitals_of(process.pid)
        swaps = Swaps(root, names, files, np.random.default_rng(asked.seed + 1))
        pulse = Pulse(address, process.pid)
        clients = _clients(address, draw, asked, tally, requests=asked.requests, salt=1)
        for thread in (swaps, pulse, *clients):
            thread.start()
        attacks = _attack(address, names[0], large, asked.half_open)
        for client in clients:
            client.join()
        swaps.stop()
        pulse.stop()
        for name in names:  # as at the beginning: files differ in what they need
            put(files[0], root / name / "1")
        time.sleep(asked.settle)
        after = vitals_of(process.pid)
        waiting = _queued(address)
        process.send_signal(signal.SIGTERM)
        status = process.wait(120)
    return Outcome(
        tally=tally,
        swaps=swaps.done,
        before=before,
        rush=rush,
        largest=largest,
        after=after,
        peak_rss_mb=pulse.peak_rss_mb,
        waiting=waiting,
        health=pulse.waits_ms,
        health_failures=pulse.failures,
        attacks=attacks,
        exit_status=status,
        growth_max=asked.growth,
    )


def _clients(
    address: tuple[str, int],
    draw: Draw,
    asked: argparse.Namespace,
    tally: Tally,
    *,
    requests: int,
    salt: int,
) -> list[Client]:
    each = -(-requests // asked.clients)
    seeds = ([asked.seed, salt, n] for n in range(asked.clients))
    return [Client(address, draw, each, tally, np.random.default_rng(seed)) for seed in seeds]


def _run_all(clients: Sequence[Client]) -> None:
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def _pool(models: Path, folder: Path) -> list[Path]:
    """Copy every model file and its variants that take the same images, so that any may answer."""
    paths = [p for name in list_models(models) for p in find_model(models, name).parent.iterdir()]
    found: dict[int, list[Path]] = {}
    for path in sorted(p for p in paths if p.suffix == ".onnx"):
        spec = ModelSpec.from_metadata(read_metadata(path), source=str(path))
        if spec.dims == 2 and spec.task == "multiclass":
            found.setdefault(spec.channels, []).append(path)
    folder.mkdir()
    most = max(found.values(), key=len)
    return [Path(shutil.copyfile(p, folder / f"{n}.onnx")) for n, p in enumerate(most)]


def _more_hostile() -> Path | None:
    shared = os.environ.get("LONGSKIP_SHARED")
    return Path(shared) / "data" / "hostile" if shared else None


def _large_image(side_px: int) -> bytes:
    coarse = np.random.default_rng(0).integers(0, 256, (side_px // 16, side_px // 16, 3), np.uint8)
    return cv2.imencode(".png", cv2.resize(coarse, (side_px, side_px)))[1].tobytes()


def _visit(address: tuple[str, int], cases: Sequence[Case], tally: Tally) -> None:
    for case in cases:
        connection = http.client.HTTPConnection(*address, timeout=START_WITHIN_S)
        ask(connection, case, tally)
        connection.close()


def _attack(address: tuple[str, int], model: str, large: bytes, half_open: int) -> list[str]:
    seen = []
    with (
        slow_heads(address, max(1, half_open // 10)) as slow,
        half_open_uploads(address, model, half_open) as halves,
        unread_answers(address, model, large, 4) as unread,
    ):
        pulse = []
        for _ in range(50):
            began_s = time.perf_counter()
            urllib.request.urlopen(f"http://{address[0]}:{address[1]}/v2/health/live").read()
            pulse.append(1e3 * (time.perf_counter() - began_s))
            time.sleep(0.05)
        p99 = np.quantile(pulse, 0.99)
        seen.append(
            f"{halves} half-open uploads, {slow} slow heads, {unread} unread answers: health on a "
            f"new connection p50 {np.median(pulse):.1f} ms, p99 {p99:.1f} ms"
        )
    for size in (100_000, 10_000_000):
        line = giant_head(address, size)
        seen.append(f"a head of {size:,} bytes: {line.decode('ascii', 'replace') or 'cut off'}")
    return seen


def _queued(address: tuple[str, int]) -> float:
    text = urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics").read().decode()
    lines = re.findall(r"^longskip_(?:queue_depth|requests_under_way)\{.*\} (\S+)$", text, re.M)
    held = re.findall(r"^longskip_decoded_pixels (\S+)$", text, re.M)
    return sum(map(float, [*lines, *held]))


def report(outcome: Outcome, took_s: float) -> None:
    """Print what came out."""
    tally = outcome.tally
    statuses = ", ".join(f"{status}: {n}" for status, n in sorted(tally.statuses().items()))
    print(f"answers   {statuses}; {tally.abandoned} abandoned; {took_s:.0f} s")
    print(f"changes   {outcome.swaps} of the models' folder")
    for name in ("before", "rush", "largest", "after"):
        then: Vitals = getattr(outcome, name)
        print(f"{name:<9} {then.rss_mb:.0f} MB, {then.threads} threads, {then.files} files")
    print(f"peak      {outcome.peak_rss_mb:.0f} MB")
    median, p99 = np.quantile(outcome.health, (0.5, 0.99))
    print(f"health    p50 {median:.1f} ms, p99 {p99:.1f} ms, max {max(outcome.health):.1f} ms")
    for line in outcome.attacks:
        print(f"attack    {line}")
    for line in outcome.failures():
        print(f"FAILED    {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, report, and return 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=at_least(1), default=20_000, help="(20000)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="repository (models)")
    parser.add_argument("--clients", type=at_least(1), default=8, help="(8)")
    parser.add_argument("--half-open", type=at_least(1), default=1000, help="uploads (1000)")
    parser.add_argument("--largest", type=at_least(16), default=2048, help="side in px (2048)")
    parser.add_argument(
        "--settle", type=float, default=35.0, help="seconds of rest before memory is read (35)"
    )
    parser.add_argument(
        "--growth", type=float, default=0.1, help="share by which memory may grow (0.1)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="(0)")
    parser.add_argument("--log", type=Path, help="keep the service's log here")
    asked = parser.parse_args(arguments)
    # So that the service ends with the soak where `timeout` ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longskip-soak-") as folder:
        outcome = soak(asked, Path(folder))
    report(outcome, time.monotonic() - began_s)
    return 1 if outcome.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
