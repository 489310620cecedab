"""``python -m training report``: one run as one HTML file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from contract.errors import LongskipError, RequestInvalid

if TYPE_CHECKING:
    from training.data.folder import FolderDataset
    from training.data.profile import DataProfile
    from training.report.answers import Answers
    from training.report.names import CaseName
    from training.report.record import RunRecord

EXAMPLES = """examples:
  python -m training report runs/my-images-concat-1
  python -m training report runs/my-images-concat-1 --part test --out for-a-colleague.html
  python -m training report runs/my-images-concat-1 --anonymous --model models/nuclei/1/model.onnx
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``report``."""
    parser = ArgumentParser(
        prog="python -m training report",
        description="Write a run's report: one HTML file that needs nothing else, whatever state "
        "the run is in.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run directory that fit wrote")
    parser.add_argument(
        "--model",
        type=Path | None,
        default=None,
        help="exported file to look at; without it the best checkpoint is exported for this once",
    )
    parser.add_argument("--part", choices=["val", "test"], default="val", help="images to look at")
    parser.add_argument(
        "--out", type=Path | None, default=None, help="the page; by default RUN/report.html"
    )
    parser.add_argument(
        "--data.root", type=Path | None, default=None, help="the data set, where it has moved since"
    )
    parser.add_argument(
        "--anonymous",
        action="store_true",
        help="number the images instead of naming them, and leave out paths; what is seen in the "
        "pictures stays",
    )
    parser.add_argument(
        "--spacing-mm",
        type=str | None,
        default=None,
        help="size of a pixel in mm, as for evaluate: one number, or rows,columns. Without it as "
        "dataset.yaml says; else lengths are in pixels",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Read, look, write, and say where the page lies."""
    settings = build_parser().parse_args(list(arguments))
    # torch and Lightning take seconds to import; --help and usage errors do without.
    from training.report.clock import read_clock
    from training.report.names import CaseName, numbers, own_names
    from training.report.page import Report, render
    from training.report.record import read_run
    from training.score.rulers import read_spacing

    if settings.spacing_mm is not None:
        read_spacing(settings.spacing_mm)
    record = read_run(settings.run)
    if settings.model is not None and not settings.model.is_file():
        raise RequestInvalid(
            f"{settings.model}: no such file; --model names an exported .onnx file"
        )
    name: CaseName = own_names
    if settings.anonymous and record.split is not None:
        name = numbers([*record.split.train, *record.split.val, *record.split.test])
    missing: list[str] = []
    dataset = _dataset(record, settings.data.root, missing, anonymous=settings.anonymous)
    profile, answers = _look(record, dataset, settings, name, missing)
    page = render(
        Report(
            record=record,
            defaults=_defaults(),
            profile=profile,
            answers=answers,
            missing=tuple(missing),
            clock=read_clock(record.run.logs),
            name=name,
            anonymous=settings.anonymous,
        )
    )
    out = settings.out or record.run.root / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB, one file)")
    if answers is not None:
        from training.score.cases import write_cases_csv

        scores = record.run.root / f"report-{settings.part}.csv"
        write_cases_csv(scores, answers.model, answers.cases)
        print(f"{scores}: the scores of each image, by its own name")
    for line in missing:
        print(f"note: {line}")
    return 0


def _dataset(
    record: "RunRecord", moved_to: Path | None, missing: list[str], *, anonymous: bool
) -> "FolderDataset | None":
    """Return the run's data set, or None and why."""
    from training.data.folder import open_folder

    spec = record.settings.get("data.spec")
    root = Path(str(record.settings.get("data.root"))) if moved_to is None else moved_to
    if not root.is_dir():
        where = "" if anonymous else f" {root}"
        missing.append(
            f"The data set{where} is not there, so the images were not looked at; give its new "
            "place by --data.root."
        )
        return None
    try:
        return open_folder(root, None if spec is None else Path(str(spec)))
    except LongskipError as error:
        why = "it has faults" if anonymous else str(error)
        missing.append(f"The data set cannot be used: {why}")
        return None


def _look(
    record: "RunRecord",
    dataset: "FolderDataset | None",
    settings: Any,
    name: "CaseName",
    missing: list[str],
) -> "tuple[DataProfile | None, Answers | None]":
    """Return what is to be seen of data and model; what is not, and why, goes into ``missing``."""
    from training.data.profile import profile
    from training.report.answers import look_at_answers, model_of
    from training.score.rulers import rulers_for

    if dataset is None or record.split is None:
        if record.split is None:
            missing.append("The run has no split.json that can be read: no images to look at.")
        return None, None
    stems = getattr(record.split, settings.part)
    seen, answers = None, None
    try:
        seen = profile(dataset, record.split.train)
        rulers = rulers_for(dataset, stems, spacing_mm=settings.spacing_mm)
        if not stems:
            missing.append(f"The run's split has no {settings.part} images, so none were scored.")
            return seen, None
        # Both take their time, and the first words of the result come after them.
        if settings.model is None:
            print("exporting the run's checkpoint for this page", flush=True)
        with model_of(record.run, settings.model) as (model, source):
            print(f"scoring {len(stems)} images", flush=True)
            answers = look_at_answers(
                model, source, dataset, stems, part=settings.part, name=name, rulers=rulers
            )
    except LongskipError as error:
        if settings.model is not None:
            raise
        why = f"{type(error).__name__}" if settings.anonymous else str(error)
        missing.append(f"No model could be looked at: {why}")
    return seen, answers


def _defaults() -> dict[str, Any]:
    import json

    from training.fit.command import build_parser as fit_parser
    from training.fit.dotted import flat

    # As they stand in a config: tuples are lists there.
    defaults = fit_parser().get_defaults().as_dict()
    return flat(json.loads(json.dumps(defaults, default=str)))
