"""``python -m training fit``: settings from a YAML file and the command line."""

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from contract.errors import RequestInvalid
from training.data.folder import FolderDataset
from training.fit.config import FitConfig
from training.fit.options import GROUPS, build_parser
from training.plan.rules import Choice, Pace
from training.plan.settings import Planned, data_config, planned_settings
from training.plan.written import with_reasons

if TYPE_CHECKING:
    from training.fit.folds import FoldsDirectory
    from training.fit.run_directory import RunDirectory

__all__ = ["GROUPS", "build_parser", "main"]


def main(arguments: Sequence[str]) -> int:
    """Parse, plan what is open, train, and say where the result lies."""
    if {"-h", "--help"} & set(arguments):
        build_parser(trainer="trainer" in arguments).print_help()
        return 0
    started_s = time.monotonic()
    # torch and Lightning take seconds to import; --help does without.
    from training.fit.fit import rank
    from training.fit.folds import read_folds
    from training.fit.stop import requeued_run

    parser = build_parser()
    settings = parser.parse_args(list(arguments))
    minutes = settings.max_minutes
    if minutes is not None and not minutes > 0:
        raise RequestInvalid(
            f"--max-minutes must be above 0, got {minutes}; leave it out to train without a limit"
        )
    deadline_s = None if minutes is None else started_s + 60 * minutes
    if settings.resume is None and (requeued := requeued_run(settings.out)) is not None:
        settings.resume, arguments = requeued, []
    earlier = None if settings.resume is None else read_folds(settings.resume)
    if earlier is not None:
        _refuse_options(arguments)
        trained = _fit_folds(parser, earlier, Planned(settings), deadline_s)
    elif settings.resume is not None:
        settings = _settings_of_run(parser, settings, arguments)
        trained = _fit(parser, Planned(settings), deadline_s).root
    elif settings.data.fold == "all":
        folds, planned = _begin_folds(parser, arguments, settings, deadline_s)
        trained = _fit_folds(parser, folds, planned, deadline_s)
    else:
        planned = _planned(parser, arguments, settings, deadline_s)
        trained = _fit(parser, planned, deadline_s).root
    if rank() == 0:
        print(f"done. Next: python -m training export {trained} --name my-model")
    return 0


def _fit(
    parser: ArgumentParser,
    planned: Planned,
    deadline_s: float | None,
    config_text: str | None = None,
) -> "RunDirectory":
    """Train one run of ``planned``; its config is ``config_text`` or says what was planned."""
    from training.fit.fit import fit
    from training.plan.keep_time import KeepToTime

    settings = planned.settings
    config = fit_config(parser, settings)
    if deadline_s is not None and planned.dataset is not None:
        # Checking and measuring took their part of the time.
        config = replace(config, max_minutes=max((deadline_s - time.monotonic()) / 60, 0.01))
    if settings.resume is not None or planned.keeps_time:
        end_s = deadline_s if planned.keeps_time and deadline_s is not None else math.inf
        own = config.trainer.get("callbacks") or []
        own = own if isinstance(own, list) else [own]
        trainer = {**config.trainer, "callbacks": [*own, KeepToTime(end_s)]}
        config = replace(config, trainer=trainer)
    text = config_text or settings_text(parser, settings, planned.choices)
    return fit(
        config,
        save_config=lambda path: _write(path, text),
        dataset=planned.dataset,
    )


def _begin_folds(
    parser: ArgumentParser,
    arguments: Sequence[str],
    settings: Namespace,
    deadline_s: float | None,
) -> "tuple[FoldsDirectory, Planned]":
    """Plan once for all folds, on the first one's images and its share of the time."""
    from training.fit.fit import run_name
    from training.fit.folds import FoldsDirectory
    from training.fit.run_directory import vacant_folder

    data = data_config(settings, {})
    _refuse_processes(settings)
    share_s = None if deadline_s is None else _share(deadline_s, data.folds or 1)
    first = [*arguments, "--data.fold=0", "--trainer.devices=1"]
    planned = _planned(parser, first, parser.parse_args(first), share_s)
    settings = planned.settings
    config = fit_config(parser, settings)
    root = vacant_folder(config.out, name=run_name(config))
    settings.data.fold, settings.out = "all", root
    folds = FoldsDirectory(root, data.folds or 1)
    folds.write_config(settings_text(parser, settings, planned.choices))
    return folds, planned


def _fit_folds(
    parser: ArgumentParser,
    folds: "FoldsDirectory",
    planned: Planned,
    deadline_s: float | None,
) -> Path:
    """Train what is not trained yet, and return the folder of all."""
    from training.fit.trackers import end_trackers, go_on_with_trackers

    for fold in range(folds.folds):
        print(f"fold {fold} of {folds.folds}, numbered from 0", flush=True)
        own_deadline_s = None
        if deadline_s is not None:
            own_deadline_s = _share(deadline_s, folds.folds - fold)
        minutes = None if own_deadline_s is None else (own_deadline_s - time.monotonic()) / 60
        text = folds.settings_of(fold, max_minutes=minutes)
        settings: Namespace = parser.parse_string(text)
        started = folds.begin(fold)
        if started is not None:
            settings.resume, settings.out, settings.init_from = started.root, None, None
            go_on_with_trackers(settings, started)
        try:
            _fit(
                parser,
                replace(planned, settings=settings),
                own_deadline_s,
                text,
            )
        except BaseException:
            print(f"the other folds too: --resume {folds.root}", file=sys.stderr, flush=True)
            raise
        end_trackers()
    return folds.root


def _share(deadline_s: float, parts: int) -> float:
    """Return the end of the first of ``parts`` equal parts of the time until ``deadline_s``."""
    now_s = time.monotonic()
    return now_s + max(deadline_s - now_s, 0.6) / parts


def _refuse_processes(settings: Namespace) -> None:
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 or settings.trainer.num_nodes > 1
    if several or settings.trainer.devices not in ("auto", 1, "1"):
        raise RequestInvalid(
            "--data.fold all trains one fold after the other in one process on one device; on "
            "several start each fold by itself with --data.fold 0, 1, … and export the runs"
        )


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
        return measure_pace(fit_config(parser, settings), dataset, deadline_s=deadline_s)

    from training.fit.fit import rank

    planned = planned_settings(parser, arguments, settings, deadline_s=deadline_s, measure=measure)
    if rank() == 0 and planned.choices:
        print("planned, with reasons in the run's config.yaml:")
        for choice in planned.choices:
            # How long it trains is what a time limit decides, and whether that is long enough.
            why = f" ({choice.reason})" if choice.option == "trainer.max_epochs" else ""
            print(f"  {choice.option} {choice.value}{why}")
    return planned


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def settings_text(parser: ArgumentParser, settings: Namespace, choices: Sequence[Choice]) -> str:
    """Return the resolved settings as YAML, planned ones with their reasons."""
    return with_reasons(parser.dump(settings, skip_unset=False), choices)


def _settings_of_run(
    parser: ArgumentParser, given: Namespace, arguments: Sequence[str]
) -> Namespace:
    """Return the earlier run's own settings; only the time limit may be another."""
    _refuse_options(arguments)
    from training.fit.run_directory import RunDirectory
    from training.fit.trackers import go_on_with_trackers

    run = RunDirectory(Path(given.resume))
    run.checkpoint("last")  # refuses with a clear text when there is nothing to resume
    settings = _read_config(parser, run)
    settings.resume, settings.out, settings.init_from = run.root, None, None
    settings.max_minutes = given.max_minutes
    go_on_with_trackers(settings, run)
    return settings


def _read_config(parser: ArgumentParser, run: "RunDirectory") -> Namespace:
    """Return the settings in the run's config.yaml.

    Raises:
        RunDirectoryError: it is not there, or not what `fit` wrote.
    """
    from training.fit.run_directory import RunDirectoryError

    parser.exit_on_error = False  # or it would end with the usage of options nobody gave
    try:
        settings: Namespace = parser.parse_path(run.config)
    except (ArgumentError, OSError, TypeError) as error:
        raise RunDirectoryError(
            f"{run.config} cannot be read ({error}); put back the one that `fit` wrote, or start "
            f"a new run from {run.checkpoint('best')} by --init-from"
        ) from error
    finally:
        parser.exit_on_error = True
    return settings


def _refuse_options(arguments: Sequence[str]) -> None:
    """Raise RequestInvalid where more than a time limit is given beside ``--resume``."""
    options = {text.split("=")[0] for text in arguments if text.startswith("--")}
    others = sorted(options - {"--resume", "--max-minutes"})
    if others:
        raise RequestInvalid(
            f"--resume goes on with the run's own settings, so {', '.join(others)} cannot be "
            "given; start a new run with --init-from to change settings"
        )


def fit_config(parser: ArgumentParser, settings: Namespace) -> FitConfig:
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
