"""The settings of each run: what is left open is planned once per data set, for all arms alike."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from contract.errors import RequestInvalid
from contract.measures import Ruler
from training.data.folder import FolderDataset, open_folder
from training.data.profile import profile
from training.data.split import Split, find_split
from training.fit.command import fit_config
from training.fit.config import FitConfig
from training.fit.options import build_parser
from training.plan.machine import this_machine
from training.plan.rules import Choice, plan
from training.score.rulers import rulers_for
from training.study.cells import Cell
from training.study.config import OF_THE_RUNNER, Settings, StudyConfig, StudyError, nested
from training.study.kept_data import refuse_changed, spec_content, spec_file, split_file

# Below every arm and data set. A study judges the last weights, so nothing is validated on the way
# and no checkpoint is chosen: a choice on few images would favour arms that swing.
DEFAULTS: Settings = {
    "data.workers": 0,
    "trainer.check_val_every_n_epoch": 1_000_000,
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "trainer.num_sanity_val_steps": 0,
}


@dataclass(frozen=True)
class Prepared:
    """One data set of a study.

    Attributes:
        dataset: checked.
        split: the same for all arms and seeds.
        choices: what was planned for the reference arm.
        settings: of every arm: defaults, plan, base, data set, arm; later ones win.
        spec: what ``data.spec`` says, which stands among the settings instead of where it lies;
            None: the study names none.
    """

    dataset: FolderDataset
    split: Split
    choices: tuple[Choice, ...]
    settings: dict[str, Settings]
    spec: dict[str, Any] | None

    @property
    def part(self) -> Literal["val", "test"]:
        """What runs are scored on: held-out images where there are any."""
        return "test" if self.split.test else "val"

    @property
    def ruler(self) -> Ruler:
        """What lengths are measured in; where images have each their own, that of one."""
        stems = self.split.test or self.split.val
        return rulers_for(self.dataset, stems).of(stems[0])


def prepare(config: StudyConfig, name: str, *, root: Path) -> Prepared:
    """Open and split a data set, plan what is open, and check the settings of every arm.

    Args:
        config: the study.
        name: of the data set.
        root: the study's folder; the split is read where it is kept there already.

    Raises:
        DataError: the data set has faults.
        StudyError: it has no folder or is not the one that the study began with, or the settings
            of an arm do not fit.
    """
    entry = config.datasets[name]
    if entry.root is None:
        raise StudyError(f"data set {name!r} has no folder; give it by --dataset {name}=DIR")
    # Whole paths: an engine may run a cell in another folder.
    shared = {**config.base, **entry.settings, "data.root": str(entry.root.resolve())}
    spec = shared.get("data.spec")
    if spec is not None:
        shared["data.spec"] = str(Path(spec).resolve())
    dataset = open_folder(entry.root, None if spec is None else Path(spec))
    refuse_changed(root, name, dataset)
    said = None if spec is None else spec_content(Path(spec))
    split_path = split_file(root, name)
    arms = config.all_arms
    choices = _plan(dataset, {**DEFAULTS, **shared, **arms[config.reference]})
    planned = {choice.option: choice.value for choice in choices}
    data = typed({**DEFAULTS, **planned, **shared, "data.split_file": str(split_path)}).data
    split = find_split(dataset, data)
    if not split.val:
        raise StudyError(
            f"{name}: no image validates; raise data.val_fraction under datasets.{name}.settings"
        )
    settings = {arm: {**DEFAULTS, **planned, **shared, **options} for arm, options in arms.items()}
    for arm, options in settings.items():
        try:
            typed(options)
        except (RequestInvalid, StudyError) as error:
            raise StudyError(f"arm {arm} on {name}: {error}") from error
        if said is not None:
            options["data.spec"] = said
    return Prepared(dataset, split, choices, settings, said)


def cell_config(cell: Cell, folder: Path) -> tuple[FitConfig, str]:
    """Return the settings of ``fit`` for one cell, typed and as the text of a config file."""
    run = folder / "run"
    study = cell.study(folder)
    spec = {"data.spec": str(spec_file(study, cell.dataset))}
    options = {
        **cell.settings,
        **(spec if cell.settings.get("data.spec") is not None else {}),
        "optimiser.lr": cell.lr,
        "seed": cell.seed,
        "data.seed": cell.seed,
        # Not among the cell's settings: a study's folder may be moved.
        "data.split_file": str(split_file(study, cell.dataset)),
        # `fit` refuses to train nothing; a cell of no steps never asks it to.
        "trainer.max_steps": max(cell.steps, 1),
        "trainer.max_epochs": -1,
        "out": str(run),
    }
    return typed(options), _text(options)


def typed(options: Settings) -> FitConfig:
    """Return dotted options of `fit` as its typed settings.

    Raises:
        RequestInvalid: a value does not fit.
        StudyError: an option that `fit` does not have.
    """
    parser = build_parser()
    parser.exit_on_error = False
    try:
        settings = parser.parse_object(nested(options))
    except Exception as error:  # jsonargparse raises its own, argparse's, TypeError and KeyError
        raise StudyError(" ".join(str(error).split())) from error
    return fit_config(parser, settings)


def _text(options: Settings) -> str:
    return yaml.safe_dump(_plain(nested(options)), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value


def _plan(dataset: FolderDataset, given: Settings) -> tuple[Choice, ...]:
    """Return what the plan chooses, less what a study sets by itself."""
    accelerator = given.get("trainer.accelerator", "auto")
    split = find_split(dataset, typed(given).data)
    choices = plan(
        profile(dataset, [case.stem for case in dataset.cases]),
        this_machine(use_gpu=accelerator in ("auto", "gpu", "cuda")),
        train_images=len(split.train),
        val_images=len(split.val),
        given=given,
    )
    return tuple(choice for choice in choices if choice.option not in OF_THE_RUNNER)


def plan_text(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Return planned options with their reasons, as plain values."""
    return [_plain(asdict(choice)) for choice in choices]
