"""The plan under what the user gave: planned values are defaults, so anything given wins."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from contract.errors import RequestInvalid
from training.data.config import DataConfig
from training.data.folder import FolderDataset, open_folder
from training.data.profile import DataProfile, profile
from training.data.split import find_split
from training.plan.machine import Machine, this_machine
from training.plan.rules import RULES, Choice, Pace, plan

# A training on several devices starts this command once for each; all must plan alike.
PACE_VARIABLE = "LONGSKIP_PACE"
# Options whose value says that nothing was asked for.
UNSET: dict[str, tuple[object, ...]] = {
    "data.patch": (None,),
    "data.working_size": (None,),
    "trainer.max_epochs": (None,),
    "trainer.max_steps": (None, -1),
    "trainer.precision": (None,),
}


@dataclass(frozen=True)
class Planned:
    """Settings with the plan in them.

    Attributes:
        settings: of ``fit``, resolved.
        choices: what was planned.
        dataset: the images, where they were looked at.
        keeps_time: the number of epochs was planned for a time limit.
    """

    settings: Namespace
    choices: tuple[Choice, ...] = ()
    dataset: FolderDataset | None = None
    keeps_time: bool = False


@dataclass(frozen=True)
class Situation:
    """What the rules are asked about: images, machine, and what the user gave."""

    dataset: FolderDataset
    profile: DataProfile
    machine: Machine
    train_images: int
    val_images: int
    given: Mapping[str, Any]

    def choices(self, pace: Pace | None = None) -> tuple[Choice, ...]:
        """Return the plan."""
        return plan(
            self.profile,
            self.machine,
            train_images=self.train_images,
            val_images=self.val_images,
            given=self.given,
            pace=pace,
        )


def given_options(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the command line and its config files set, by dotted option."""
    given = parser.parse_args(list(arguments), defaults=False, _skip_validation=True)
    flat = dict(vars(given.as_flat()))
    return {name: value for name, value in flat.items() if value not in UNSET.get(name, ())}


def data_config(settings: Namespace, given: Mapping[str, Any]) -> DataConfig:
    """Return the data settings before anything is planned; what was given is checked by itself.

    A plan around a patch of no pixels would be none.

    Raises:
        RequestInvalid: a setting's own check fails.
    """
    try:
        seed = given.get("data.seed", settings.seed)
        return DataConfig(**{**vars(settings.data), "seed": seed})
    except ValueError as error:
        raise RequestInvalid(str(error)) from error


def look(given: Mapping[str, Any], data: DataConfig) -> Situation:
    """Open and check the data set, split it, and look at images and machine.

    All images are profiled, held-out ones too: sizes, intensities and what masks look like, which
    decide on crops and resizing. No rule takes a weight or a threshold from them.

    Raises:
        DataError: the data set or the split has faults.
    """
    dataset = open_folder(Path(data.root), None if data.spec is None else Path(data.spec))
    split = find_split(dataset, data)
    accelerator = given.get("trainer.accelerator", "auto")
    return Situation(
        dataset=dataset,
        profile=profile(dataset, [case.stem for case in dataset.cases]),
        machine=this_machine(use_gpu=accelerator in ("auto", "gpu", "cuda")),
        train_images=len(split.train),
        val_images=len(split.val),
        given=given,
    )


def planned_settings(
    parser: ArgumentParser,
    arguments: Sequence[str],
    settings: Namespace,
    *,
    deadline_s: float | None,
    measure: Callable[[Namespace, FolderDataset], Pace],
) -> Planned:
    """Return the settings of ``arguments`` with everything else planned.

    Args:
        parser: of ``fit``; its defaults become the plan.
        arguments: the command line.
        settings: what ``parser`` made of it before there was a plan.
        deadline_s: end of the training on the clock of ``time.monotonic``; None: no time limit.
        measure: trains a few steps of planned settings, for a training with a time limit.

    Raises:
        DataError: the data set or the split has faults.
    """
    given = given_options(parser, arguments)
    if set(RULES) <= set(given):
        return Planned(settings)
    situation = look(given, data_config(settings, given))
    choices = situation.choices()
    settings = _with_defaults(parser, arguments, choices)
    epochs_are_open = not {"trainer.max_epochs", "trainer.max_steps"} & set(given)
    if deadline_s is not None and epochs_are_open:
        pace = _shared_pace(deadline_s, lambda: measure(settings, situation.dataset))
        if pace is not None:
            choices = situation.choices(pace)
            settings = _with_defaults(parser, arguments, choices)
    keeps_time = deadline_s is not None and epochs_are_open
    return Planned(settings, choices, situation.dataset, keeps_time)


def _with_defaults(
    parser: ArgumentParser, arguments: Sequence[str], choices: Sequence[Choice]
) -> Namespace:
    parser.set_defaults({choice.option: choice.value for choice in choices})
    settings: Namespace = parser.parse_args(list(arguments))
    return settings


def _by_srun() -> bool:
    """Whether srun started several processes, as Lightning tells it."""
    own_shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and not own_shell


def _shared_pace(deadline_s: float, measure: Callable[[], Pace]) -> Pace | None:
    """Return one pace for all processes of a training; None where that cannot be."""
    told = os.environ.get(PACE_VARIABLE)
    # The first process told it; what an earlier training of this process told is over.
    if told is not None and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return Pace(**json.loads(told))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        from training.plan.agree import agreed, torchrun_store  # imports torch

        rank = int(os.environ["RANK"])
        return agreed(measure(), torchrun_store(), rank=rank, processes=processes)
    if processes > 1 or _by_srun():
        # Started at once by something else: each would measure something else.
        return None
    if deadline_s - time.monotonic() <= 0:
        return None
    pace = measure()
    os.environ[PACE_VARIABLE] = json.dumps(asdict(pace))
    return pace
