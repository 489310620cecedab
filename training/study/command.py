"""``python -m training study``: a grid of trainings from one file, to one report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from training.study.config import Given, StudyError, flat, preset_names, read_option, read_study

EXAMPLES = """examples:
  python -m training study long-skips --dataset mine=my-images
  python -m training study long-skips --dataset mine=my-images --steps 100 --seeds 0
  python -m training study my-study.yaml --out studies/mine --jobs 4
  python -m training study vanishing --dataset mine=my-images --engine ray
  python -m training study long-skips --dataset mine=/shared/images --out /shared/studies/mine \\
      --engine slurm --jobs 20 --engine-option slurm_partition=gpu --engine-option timeout_min=120

The same command again goes on where the study was ended. Presets: {presets}.
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``study``."""
    parser = ArgumentParser(
        prog="python -m training study",
        description="Run a grid of trainings (arms x seeds x data sets), and report what it says.",
        epilog=EXAMPLES.format(presets=", ".join(preset_names())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("study", type=str, help="YAML file of the study, or a preset's name")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a folder of images and masks; give it again for more. Only these are used then",
    )
    parser.add_argument(
        "--out", type=Path | None, default=None, help="by default studies/NAME-DATASETS"
    )
    parser.add_argument(
        "--seeds", type=str | None, default=None, help="such as 0,1,2; instead of the study's"
    )
    parser.add_argument(
        "--steps", type=int | None, default=None, help="of every run; instead of the study's"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of fit for all runs, such as data.batch_size=4",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--engine",
        choices=["local", "ray", "slurm"],
        default="local",
        help="where they run: processes of this machine, a Ray cluster, an array of SLURM jobs",
    )
    parser.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of ray.init (address=auto), or of submitit (slurm_partition=gpu)",
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="run nothing; write the report of what the folder holds so far",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the study and say where its report lies; 1 where a run could not be finished."""
    settings = build_parser().parse_args(list(arguments))
    fields: dict[str, object] = {}
    if settings.steps is not None:
        fields["steps"] = settings.steps
    if settings.seeds is not None:
        fields["seeds"] = _seeds(settings.seeds)
    config = read_study(
        settings.study,
        Given(
            datasets={name: Path(root) for name, root in map(_dataset, settings.dataset)},
            settings=_options(settings.set),
            fields=fields,
        ),
    )
    if settings.jobs < 1:
        raise StudyError(f"--jobs must be 1 or more, got {settings.jobs}")
    # torch and Lightning take seconds to import; --help and usage errors do without.
    from training.study.conduct import Place, conduct
    from training.study.record import read_record
    from training.study.report import write_report
    from training.study.standing import runs_of, tries_of

    out = settings.out or Path("studies") / "-".join([config.name, *config.datasets])
    if settings.report_only:
        report = write_report(out)
        record = read_record(out)
        for said, standing in (("learning rates", tries_of(record)), ("runs", runs_of(record))):
            if standing.states:
                print(f"{said}: {standing}")
        print(f"report: {report}")
        return 0
    options = dict(map(read_option, settings.engine_option))
    try:
        conducted = conduct(config, out, Place(settings.engine, settings.jobs, options))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command goes on with {out}") from None
    for folder in conducted.failed:
        reason = (folder / "failed.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
        print(f"not finished: {folder.relative_to(out.resolve())}: {reason}")
    print(f"report: {write_report(out)}")
    return 1 if conducted.failed else 0


def _options(given: Sequence[str]) -> dict[str, object]:
    try:
        return flat(dict(map(read_option, given)))
    except ValueError as error:
        raise StudyError(f"--set: {error}") from error


def _dataset(text: str) -> tuple[str, str]:
    name, equals, root = text.partition("=")
    if not equals or not root:
        raise StudyError(f"--dataset {text}: give NAME=DIR, such as nuclei=my-images")
    return name, root


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise StudyError(f"--seeds {text}: give whole numbers such as 0,1,2") from error
