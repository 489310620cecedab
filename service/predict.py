"""``python -m service predict``: label a folder of images, through a service or in this process.

Each image's answer is written whole or not at all, and one that is there is not made again, so a
run that was stopped goes on where it was. ``predictions.csv`` tells which model made what,
``failures.csv`` which images have no answer and why.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO, cast

from contract.errors import LongskipError, RequestInvalid
from contract.session import usable_cores
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import decode_image
from service.client import Client, ServiceError
from service.engine.encode import ENCODINGS, Answer, AnswerFormat, check_fits, encode
from service.repository.load import open_version, version_asked
from service.repository.policy import named_version
from service.repository.repository import UnusedModel
from service.settings import Settings

KEY_VARIABLE = "LONGSKIP_KEY"
PREDICTIONS, FAILURES = "predictions.csv", "failures.csv"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
# Enough to keep a service's cores and its codecs busy, and far from its queue's end.
REQUESTS_AT_ONCE = 8


@dataclass(frozen=True)
class Made:
    """One answer: which image, where, in which format, and by which model file."""

    image: str
    output: str
    format: AnswerFormat
    model: str
    version: int
    sha256: str


Ask = Callable[[Path], tuple[bytes, str, int, str]]
"""An image to the answer's bytes, and the name, version and SHA-256 of the model."""
AddRow = Callable[[Sequence[object]], object]
Task = tuple[Path, Path]
"""An image, and where its answer goes."""


def main(arguments: Sequence[str]) -> int:
    """Return 0 where every image has its answer, 1 where some have none, 2 where none could."""
    given = build_parser().parse_args(arguments)
    try:
        tasks = plan_outputs(given.images, given.out, ENCODINGS[given.format].suffix)
        asker, jobs = (
            (_through_service, REQUESTS_AT_ONCE) if given.url else (_in_process, usable_cores())
        )
        with asker(given) as ask:
            jobs = given.jobs or jobs
            return run(tasks, ask, given.out, given.format, jobs=jobs, overwrite=given.overwrite)
    except (LongskipError, ServiceError, OSError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m service predict``."""
    parser = argparse.ArgumentParser(
        prog="python -m service predict",
        description="Label images, through a running service (--url) or in this process.",
    )
    add = parser.add_argument
    add("images", nargs="+", type=Path, help="image files, or folders of them")
    add("--out", required=True, type=Path, help="folder for the answers; what is there is kept")
    add("--model", required=True, help="name of the model")
    add(
        "--version",
        type=named_version,
        help="of the model, or an alias; unset: the alias stable, without one the newest",
    )
    add("--format", choices=tuple(ENCODINGS), default="png", help="of the answers")
    add("--url", help="address of a running service; unset: run here")
    add("--models", type=Path, default=Path("models"), help="the models' folder, to run here")
    add("--device", choices=("auto", "cpu", "cuda", "tensorrt"), default="auto")
    add("--precision", choices=("auto", "fp32", "fp16", "int8"), default="auto")
    add("--jobs", type=int, help="images at one time")
    add("--overwrite", action="store_true", help="make answers again that are there")
    return parser


def plan_outputs(sources: Sequence[Path], out: Path, suffix: str) -> list[Task]:
    """Return each image and where its answer goes: its name, below ``out`` as below its folder.

    Raises:
        RequestInvalid: a source is not there or holds no image, two answers meet in one file, or
            an answer meets an image.
    """
    tasks: dict[Path, Path] = {}
    for source in sources:
        if not source.exists():
            raise RequestInvalid(f"{source} is not there")
        found = sorted(_images_in(source)) if source.is_dir() else [source]
        if not found:
            raise RequestInvalid(f"{source} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        for image in found:
            below = image.relative_to(source) if source.is_dir() else Path(image.name)
            target = out / below.with_suffix(suffix)
            if target in tasks and tasks[target] != image:
                raise RequestInvalid(
                    f"{tasks[target]} and {image} would both be answered in {target}; rename one, "
                    "or run them into two folders"
                )
            tasks[target] = image
    at_home = {image.resolve() for image in tasks.values()} & {t.resolve() for t in tasks}
    if at_home:
        raise RequestInvalid(
            f"the answer of an image would take the place of {min(at_home)}; give another --out"
        )
    return [(image, target) for target, image in tasks.items()]


def run(
    tasks: Sequence[Task],
    ask: Ask,
    out: Path,
    answer_format: AnswerFormat,
    *,
    jobs: int,
    overwrite: bool,
) -> int:
    """Answer what has no answer yet, and return the exit status.

    Raises:
        RequestInvalid: ``out`` holds answers in another format, or of another model file.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = [] if overwrite else _read_made(out / PREDICTIONS)
    others = {made.format for made in kept} - {answer_format}
    if others:  # some formats share a suffix, so those would pass for answers in this one
        raise RequestInvalid(
            f"{out} holds answers in {', '.join(sorted(others))}, now {answer_format} is asked "
            "for; give another --out, or --overwrite"
        )
    open_tasks = [task for task in tasks if overwrite or not task[1].exists()]
    if len(open_tasks) < len(tasks):
        print(f"{len(tasks) - len(open_tasks)} of {len(tasks)} are there already", file=sys.stderr)
    failures: list[tuple[str, str]] = []
    began_s = time.monotonic()
    with _open_rows(out / PREDICTIONS, [f.name for f in fields(Made)]) as (file, add):
        for made in kept:
            add(astuple(made))
        shas = {made.sha256 for made in kept}
        for done, ((image, target), outcome) in enumerate(_answers(open_tasks, ask, jobs), start=1):
            if isinstance(outcome, Exception):
                reason = " ".join(str(outcome).split()) or type(outcome).__name__
                failures.append((str(image), reason))
            else:
                content, model, version, sha256 = outcome
                if shas - {sha256}:
                    raise RequestInvalid(
                        f"{out} holds answers of another model file ({min(shas)[:12]}…, now "
                        f"{sha256[:12]}…); give another --out, or --overwrite"
                    )
                _write(target, content)
                output = str(target.relative_to(out))
                add(astuple(Made(str(image), output, answer_format, model, version, sha256)))
                file.flush()  # a run that is killed knows what it made
            _tell(done, len(open_tasks), len(failures), began_s)
    with _open_rows(out / FAILURES, ["image", "reason"]) as (_, add):
        for failure in failures:
            add(failure)
    if failures:
        print(f"{len(failures)} have no answer: {out / FAILURES}", file=sys.stderr)
    return 1 if failures else 0


def _answers(
    tasks: Sequence[Task], ask: Ask, jobs: int
) -> Iterator[tuple[Task, tuple[bytes, str, int, str] | Exception]]:
    """Yield each task with its answer or its error, as they come."""
    waiting = iter(tasks)
    with ThreadPoolExecutor(jobs, thread_name_prefix="predict") as pool:
        running: dict[Future[tuple[bytes, str, int, str]], Task] = {}
        try:
            while True:
                # No more are begun than are worked on: answers that wait take memory.
                for task in waiting:
                    running[pool.submit(ask, task[0])] = task
                    if len(running) >= jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    error = future.exception()
                    task = running.pop(future)
                    if error is not None and not isinstance(error, Exception):
                        raise error
                    yield task, future.result() if error is None else error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _through_service(given: argparse.Namespace) -> Iterator[Ask]:
    with Client(given.url, key=os.environ.get(KEY_VARIABLE)) as client:
        client.models()  # tells at once whether anybody answers

        def ask(image: Path) -> tuple[bytes, str, int, str]:
            answer = client.segment(
                image, model=given.model, version=given.version, format=given.format
            )
            return answer.content, answer.model, answer.version, answer.sha256

        yield ask


@contextmanager
def _in_process(given: argparse.Namespace) -> Iterator[Ask]:
    settings = Settings(models=given.models, device=given.device, precision=given.precision)
    version = version_asked(given.models, given.model, given.version)
    served = open_version(settings, given.model, version)
    if isinstance(served, UnusedModel):
        raise RequestInvalid(f"{served.name}/{served.version} cannot be used: {served.reason}")
    answer_format: AnswerFormat = given.format
    spec, encoding = served.model.spec, ENCODINGS[answer_format]
    check_fits(spec, answer_format)
    # Images side by side on one core each, as the service runs a crowd.
    model = served.one_core if served.one_core is not None else served.model

    def ask(image: Path) -> tuple[bytes, str, int, str]:
        decoded = decode_image(image.read_bytes(), max_pixels=settings.max_pixels)
        segmentation = model.segment(
            to_chw_float32(match_channels(decoded.pixels_hwc, spec.channels)),
            probabilities=encoding.needs_probabilities,
        )
        answer = Answer(spec, segmentation, decoded.pixels_hwc, opacity=0.4)
        return encode(answer, answer_format), served.name, served.version, model.sha256

    yield ask


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not hidden:
            yield path


def _read_made(path: Path) -> list[Made]:
    """Return what earlier runs made and is there yet; a line that was cut off is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in list(csv.reader(file))[1:] if len(row) == len(fields(Made))]
    made = [
        Made(image, output, cast(AnswerFormat, answer_format), model, int(version), sha)
        for image, output, answer_format, model, version, sha in rows
    ]
    return [one for one in made if (path.parent / one.output).exists()]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    os.replace(beside, path)


@contextmanager
def _open_rows(path: Path, head: Sequence[str]) -> Iterator[tuple[IO[str], AddRow]]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        yield file, writer.writerow


def _tell(done: int, total: int, failed: int, began_s: float) -> None:
    left_s = (time.monotonic() - began_s) / done * (total - done)
    line = f"{done}/{total} images, {failed} without an answer, about {left_s:.0f} s left"
    end = "\n" if done == total or not sys.stderr.isatty() else "\r"
    if sys.stderr.isatty() or done == total or done % 100 == 0:
        print(f"{line:<70}", end=end, file=sys.stderr, flush=True)
