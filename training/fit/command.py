"""``python -m training fit``: settings from a YAML file and the command line."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from contract.errors import RequestInvalid
from training.data.folder import FolderDataset
from training.fit.config import FitConfig
from training.fit.options import GROUPS, build_parser
from training.plan.rules import Choice, Pace
from training.plan.settings import Planned, planned_settings
from training.plan.written import with_reasons

__all__ = ["GROUPS", "build_parser", "main"]


def main(arguments: Sequence[str]) -> int:
    """Parse, plan what is open, train, and say where the result lies."""
    if {"-h", "--help"} & set(arguments):
        build_parser(trainer="trainer" in arguments).print_help()
        return 0
    started_s = time.monotonic()
    # torch and Lightning take seconds to import; --help does without.
    from training.fit.fit import fit, rank
    from training.fit.stop import requeued_run
    from training.plan.keep_time import KeepToTime

    parser = build_parser()
    settings = parser.parse_args(list(arguments))
    minutes = settings.max_minutes
    deadline_s = None if minutes is None else started_s + 60 * minutes
    planned = Planned(settings)
    if settings.resume is not None:
        settings = _settings_of_run(parser, settings, arguments)
    elif (requeued := requeued_run(settings.out)) is not None:
        settings.resume = requeued
        settings = _settings_of_run(parser, settings, [])
    else:
        planned = _planned(parser, arguments, settings, deadline_s)
        settings = planned.settings
    config = _config(parser, settings)
    if deadline_s is not None and planned.dataset is not None:
        # Checking and measuring took their part of the time.
        config = replace(config, max_minutes=max((deadline_s - time.monotonic()) / 60, 0.01))
    if settings.resume is not None or planned.keeps_time:
        end_s = deadline_s if planned.keeps_time and deadline_s is not None else math.inf
        own = config.trainer.get("callbacks") or []
        own = own if isinstance(own, list) else [own]
        trainer = {**config.trainer, "callbacks": [*own, KeepToTime(end_s)]}
        config = replace(config, trainer=trainer)
    run = fit(
        config,
        save_config=lambda path: write_settings(parser, settings, planned.choices, path),
        dataset=planned.dataset,
    )
    if rank() == 0:
        print(f"done. Next: python -m training export {run.root} --name my-model")
    return 0


def _planned(
    parser: ArgumentParser,
    arguments: Sequence[str],
    settings: Namespace,
    deadline_s: float | None,
) -> Planned:
    def measure(settings: Namespace, dataset: FolderDataset) -> Pace:
        from training.plan.pace import measure_pace

        if deadline_s is None:
            raise ValueError("a pace is measured for a time limit, and there is none")
        return measure_pace(_config(parser, settings), dataset, deadline_s=deadline_s)

    from training.fit.fit import rank

    planned = planned_settings(parser, arguments, settings, deadline_s=deadline_s, measure=measure)
    if rank() == 0 and planned.choices:
        print("planned, with reasons in the run's config.yaml:")
        for choice in planned.choices:
            print(f"  {choice.option} {choice.value}")
    return planned


def write_settings(
    parser: ArgumentParser, settings: Namespace, choices: Sequence[Choice], path: Path
) -> None:
    """Write the resolved settings as YAML, planned ones with their reasons."""
    path.write_text(
        with_reasons(parser.dump(settings, skip_unset=False), choices), encoding="utf-8"
    )


def _settings_of_run(
    parser: ArgumentParser, given: Namespace, arguments: Sequence[str]
) -> Namespace:
    """Return the earlier run's own settings; only the time limit may be another."""
    options = {text.split("=")[0] for text in arguments if text.startswith("--")}
    others = sorted(options - {"--resume", "--max-minutes"})
    if others:
        raise RequestInvalid(
            f"--resume goes on with the run's own settings, so {', '.join(others)} cannot be "
            "given; start a new run with --init-from to change settings"
        )
    from training.fit.run_directory import RunDirectory

    run = RunDirectory(Path(given.resume))
    run.checkpoint("last")  # refuses with a clear text when there is nothing to resume
    settings: Namespace = parser.parse_path(run.config)
    settings.resume, settings.out, settings.init_from = run.root, None, None
    settings.max_minutes = given.max_minutes
    return settings


def _config(parser: ArgumentParser, settings: Namespace) -> FitConfig:
    """Return the typed settings; groups and Lightning's own classes are instantiated."""
    try:
        built = parser.instantiate(settings)
    except ValueError as error:  # the settings' own checks
        raise RequestInvalid(str(error)) from error
    fields = {name: built[name] for name in GROUPS}
    plain = {
        name: getattr(built, name)
        for name in (
            *("normalising", "seed", "out", "init_from", "resume", "max_minutes"),
            *("checkpoint_minutes", "channels_last", "compile"),
        )
    }
    try:
        return FitConfig(**fields, **plain, trainer=vars(built.trainer))
    except ValueError as error:
        raise RequestInvalid(str(error)) from error
