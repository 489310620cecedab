"""What a study asks and how: one YAML file."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import LongskipError
from contract.measures import METRICS
from training.probe.command import INSTRUMENTS

PRESETS = Path(__file__).parents[1] / "configs" / "study"
# Of the tries of learning rates: none that is reported, or the chosen rate would be the best for
# that very one; and always the same, so that seeds can be added to a finished study.
TRIAL_SEED = 1000
Settings = dict[str, Any]
"""Options of `fit` by their dotted names, such as ``net.long_skips``."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
# The runner sets these for each run, so that all arms are treated alike.
OF_THE_RUNNER = {
    *("seed", "data.seed", "data.split_file", "data.fold", "data.folds", "optimiser.lr"),
    *("out", "resume", "init_from", "max_minutes", "trainer.max_steps", "trainer.max_epochs"),
    # Would end arms at other steps, or is replaced by what the study watches.
    *("trainer.max_time", "trainer.callbacks", "config"),
}
# An arm on other images or another split could not be held against the others.
OF_THE_DATASET = {
    *("data.root", "data.spec", "data.split", "data.val_fraction", "data.test_fraction"),
}
# Options of `fit` that hold others: none has a value of its own.
GROUPS = ("data", "net", "loss", "optimiser", "augment", "trainer")
LARGEST_SEED = 2**32 - 1


class StudyError(LongskipError):
    """A study that cannot be run as it is written, or not into this folder."""


class DatasetEntry(BaseModel):
    """A folder of images and masks.

    Attributes:
        root: the folder; None: given on the command line by ``--dataset NAME=DIR``.
        settings: options of `fit` for this data set, in all arms.
        metrics: what its cases are scored by besides Dice; None: as the study says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path | None = None
    settings: Settings = Field(default_factory=dict)
    metrics: tuple[str, ...] | None = None


class StudyConfig(BaseModel):
    """A question, and the runs that answer it.

    Attributes:
        name: short, for the report's title.
        question: one sentence that ends in a question mark.
        background: what others found, with the papers; shown above the method.
        datasets: by name.
        base: options of `fit` in all runs; nested or dotted names.
        arms: what is compared: arm -> options. Without ``factors`` at least one.
        factors: factor -> level -> options; every combination of levels is an arm as well.
        reference: the arm that all others are held against.
        steps: optimiser steps of every run, the same for all arms; 0: nothing is trained, and nets
            are looked at as they are initialised.
        seeds: of weights, order and augmentation; fewer than 3 make the study exploratory.
        learning_rates: tried for each arm and data set with a seed of its own; the one with the
            best validation Dice (on a tie the lowest loss) trains the arm. One value: not tuned.
        sweep_fraction: steps of a try as a fraction of ``steps``.
        metrics: names of contract.measures.METRICS besides Dice.
        probes: run on every trained net.
        probes_once: run on the nets of the first seed only, because they take long.
        watch: gradient-flow, norm-preservation: followed while the first seed trains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    question: str = Field(min_length=1)
    background: str = ""
    datasets: dict[Name, DatasetEntry] = Field(default_factory=dict)
    base: Settings = Field(default_factory=dict)
    arms: dict[Name, Settings] = Field(default_factory=dict)
    factors: dict[Name, dict[Name, Settings]] = Field(default_factory=dict)
    reference: str
    steps: Annotated[int, Field(ge=0)]
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)], ...] = Field(
        default=(0, 1, 2), min_length=1
    )
    learning_rates: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(2e-3,), min_length=1
    )
    sweep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    metrics: tuple[str, ...] = ("iou", "hd95", "nsd")
    probes: tuple[str, ...] = ()
    probes_once: tuple[str, ...] = ()
    watch: tuple[Literal["gradient-flow", "norm-preservation"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        """Take options nested as well as dotted."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        for name in ("base",):
            if isinstance(given.get(name), dict):
                given[name] = flat(given[name])
        if isinstance(given.get("arms"), dict):
            given["arms"] = {arm: flat(options) for arm, options in given["arms"].items()}
        if isinstance(given.get("factors"), dict):
            given["factors"] = {
                factor: {level: flat(options) for level, options in levels.items()}
                if isinstance(levels, dict)
                else levels
                for factor, levels in given["factors"].items()
            }
        if isinstance(given.get("datasets"), dict):
            given["datasets"] = {
                dataset: {**entry, "settings": flat(entry.get("settings"))}
                if isinstance(entry, dict)
                else {}
                if entry is None
                else entry
                for dataset, entry in given["datasets"].items()
            }
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        arms = self.all_arms
        if not arms:
            raise ValueError("there is nothing to compare: give arms, factors or both")
        if self.reference not in arms:
            raise ValueError(
                f"reference {self.reference!r} is no arm; the arms are {', '.join(arms)}"
            )
        same = [
            (one, other)
            for (one, a), (other, b) in itertools.combinations(arms.items(), 2)
            if a == b
        ]
        if same:
            raise ValueError(f"arms {same[0][0]} and {same[0][1]} are the same settings")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed stands twice in {list(self.seeds)}")
        rates = [f"{rate:g}" for rate in self.learning_rates]
        if len(set(rates)) < len(rates):
            raise ValueError(f"learning_rates holds a rate twice: {', '.join(rates)}")
        crossed = math.prod(len(levels) for levels in self.factors.values()) if self.factors else 0
        if len(arms) < len(self.arms) + crossed:
            raise ValueError(
                "two arms have one name; rename a level or an arm (levels are joined by +)"
            )
        if TRIAL_SEED in self.seeds:
            raise ValueError(f"seed {TRIAL_SEED} is that of the tries of learning rates")
        for what, settings in (
            ("base", self.base),
            *((f"dataset {name}", entry.settings) for name, entry in self.datasets.items()),
            *((f"arm {name}", options) for name, options in arms.items()),
        ):
            own = OF_THE_RUNNER | (OF_THE_DATASET if what.startswith("arm ") else set())
            taken = sorted(own & set(settings))
            if taken:
                raise ValueError(
                    f"{what} sets {', '.join(taken)}, which must be the same for all runs: use "
                    "steps, seeds and learning_rates, and datasets for images and their split"
                )
        for metrics in (self.metrics, *(e.metrics or () for e in self.datasets.values())):
            unknown = sorted(set(metrics) - set(METRICS))
            if unknown:
                raise ValueError(f"metrics knows {', '.join(METRICS)}; got {', '.join(unknown)}")
        for probe in (*self.probes, *self.probes_once):
            if probe not in INSTRUMENTS:
                raise ValueError(f"probes are {', '.join(INSTRUMENTS)}; got {probe}")
        if self.steps == 0 and self.watch:
            raise ValueError("steps is 0, so there is no training to watch; use probes")
        return self

    @property
    def all_arms(self) -> dict[str, Settings]:
        """Return every arm's own options by its name; levels are joined by ``+``."""
        arms = dict(self.arms)
        if self.factors:
            for levels in itertools.product(*(f.items() for f in self.factors.values())):
                name = "+".join(level for level, _ in levels)
                arms[name] = {key: v for _, options in levels for key, v in options.items()}
        return arms

    def levels_of(self, arm: str) -> dict[str, str]:
        """Return factor -> level of an arm that ``factors`` made; empty for others."""
        if arm in self.arms or not self.factors:
            return {}
        for levels in itertools.product(*self.factors.values()):
            if "+".join(levels) == arm:
                return dict(zip(self.factors, levels, strict=True))
        return {}

    @property
    def exploratory(self) -> bool:
        """Whether there are too few seeds to tell an effect from luck."""
        return self.steps > 0 and len(self.seeds) < 3

    def metrics_of(self, dataset: str) -> tuple[str, ...]:
        """Return Dice and the data set's other metrics."""
        own = self.datasets[dataset].metrics
        return tuple(dict.fromkeys(("dice", *(self.metrics if own is None else own))))


@dataclass(frozen=True)
class Given:
    """What the command line changes of a study; None and empty: nothing.

    Attributes:
        datasets: name -> folder.
        settings: options of `fit` that win over ``base``.
        fields: top-level fields of the study, such as ``steps``.
    """

    datasets: Mapping[str, Path]
    settings: Mapping[str, Any]
    fields: Mapping[str, Any]


def read_study(source: str, given: Given) -> StudyConfig:
    """Return the study of a YAML file, or of a preset by its name.

    Raises:
        StudyError: there is no such file or preset, or it is not a study.
    """
    path = Path(source)
    if not path.is_file():
        path = PRESETS / f"{source}.yaml"
    if not path.is_file():
        raise StudyError(
            f"{source}: no such file, and no preset; presets are {', '.join(preset_names())}"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds no settings; see a preset in {PRESETS.name}/")
    content |= given.fields
    datasets = content.get("datasets") or {}
    try:
        content["base"] = {**flat(content.get("base")), **given.settings}
        if not isinstance(datasets, Mapping):
            raise ValueError(f"datasets maps names to folders; got {datasets!r}")
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from error
    # Named on the command line: those alone, with the file's settings where it knows them.
    if given.datasets:
        datasets = {
            name: {**_entry(datasets.get(name)), "root": str(root)}
            for name, root in given.datasets.items()
        }
    content["datasets"] = datasets
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{path}: {_first_fault(error)}") from error


def _entry(given: Any) -> dict[str, Any]:
    """Return a data set's entry as a mapping; a bare folder is its root."""
    return dict(given) if isinstance(given, Mapping) else {}


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: of two arms with one name the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def flat(settings: Any, prefix: str = "") -> Settings:
    """Return nested options by their dotted names; what is dotted already stays.

    Raises:
        ValueError: no mapping, or a group of options that is none.
    """
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"options are a mapping such as net.long_skips: none; got {settings!r}")
    found: Settings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" in GROUPS:
            raise ValueError(
                f"{key} is a group of options, such as {key}: {{name: value}} or {key}.name: "
                f"value; got {value!r}. Leave it out where none of them is set"
            )
        else:
            found[f"{prefix}{key}"] = value
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted options as `fit` reads them from a file."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree


def read_option(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``, the value read as YAML.

    Raises:
        StudyError: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.]+", name):
        raise StudyError(f"{text!r}: give an option as NAME=VALUE, such as data.batch_size=4")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise StudyError(f"{text!r}: the value is no YAML: {error}") from error


def _first_fault(error: ValidationError) -> str:
    faults: Sequence[Any] = error.errors()
    texts = [
        f"{'.'.join(map(str, fault['loc'])) or 'study'}: "
        + str(fault["msg"]).removeprefix("Value error, ")
        for fault in faults
    ]
    return "; ".join(texts[:5])
