"""Where a training stood, exactly: what Lightning's checkpoint leaves out.

A point is taken between two optimiser steps, when every logger has its rows and a validation that
was due is over. Then the state is: weights, optimiser, schedule, callbacks (Lightning's), the
place in the epoch, and the random generators (here). Samples need nothing: each is a function of
(seed, epoch, index).
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from contract.errors import LongskipError
from training.fit.checkpoint import CheckpointUnreadable, Description, read_whole
from training.fit.run_directory import LAST, PREVIOUS, RunDirectory

RESUME_KEY = "longskip_resume"


class NothingToResume(LongskipError):
    """No checkpoint of the run can be gone on with."""


@dataclass(frozen=True)
class ResumePoint:
    """The place of a checkpoint in its training.

    Attributes:
        epoch: the epoch that the next step belongs to, from 0.
        batches: steps of the loader that this epoch is over with, in each process.
        steps: optimiser steps taken in all.
        logged_steps: the step that loggers write next.
        metric_rows: rows that metrics.csv had.
        finished: the training came to its end; there is nothing to go on with.
        generators: states of the random generators, one entry per process.
    """

    epoch: int
    batches: int
    steps: int
    logged_steps: int
    metric_rows: int
    finished: bool
    generators: tuple[dict[str, Any], ...]

    def restore(self, trainer: L.Trainer) -> None:
        """Set generators and the loggers' step as they were; to be called at the next step.

        Setting up draws from the generators (each loader its seed), so no earlier moment is right.
        """
        # Lightning adds one where it comes past a validation that it had done before.
        trainer.fit_loop.epoch_loop._batches_that_stepped = self.logged_steps
        if trainer.global_rank < len(self.generators):
            set_generators(self.generators[trainer.global_rank])


def take_point(
    trainer: L.Trainer, *, batches: int, metric_rows: int, finished: bool
) -> ResumePoint:
    """Return where ``trainer`` stands; every process of a training has to call it."""
    return ResumePoint(
        epoch=trainer.current_epoch,
        batches=batches,
        steps=trainer.global_step,
        logged_steps=trainer.fit_loop.epoch_loop._batches_that_stepped,
        metric_rows=metric_rows,
        finished=finished,
        generators=_of_all_processes(get_generators()),
    )


def settle(checkpoint: dict[str, Any], point: ResumePoint) -> None:
    """Put ``point`` into ``checkpoint``, and Lightning's counters to between two steps.

    When a step begins, Lightning has already counted its batch as fetched. A counter that is
    ahead of the others would make it take the restart for one of another kind.
    """
    checkpoint[RESUME_KEY] = asdict(point)
    if point.finished:
        return
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts.update(dict.fromkeys(("ready", "started", "processed"), counts["completed"]))
    progress["is_last_batch"] = False


def find_point(run: RunDirectory) -> tuple[Path, ResumePoint | None, str | None]:
    """Return the newest whole checkpoint of ``run``, its place, and what is to be said of it.

    The place is None in a checkpoint that an earlier version wrote after a whole epoch.

    Raises:
        NothingToResume: there is no whole checkpoint.
    """
    broken = []
    for name in (LAST, PREVIOUS):
        path = run.checkpoints / name
        if not path.is_file():
            continue
        try:
            stored = read_whole(path)
        except CheckpointUnreadable:
            broken.append(name)
            continue
        fields = stored.get(RESUME_KEY)
        point = None
        if fields is not None:
            point = ResumePoint(**{**fields, "generators": tuple(fields["generators"])})
        note = None
        if broken:
            step = stored["global_step"]
            note = f"{broken[0]} is not whole; going on from {name}, written at step {step}"
        return path, point, note
    if broken:
        raise NothingToResume(
            f"{' and '.join(broken)} in {run.checkpoints} do not load; start a new run, from "
            f"weights that do load by --init-from, such as best.ckpt"
        )
    raise NothingToResume(
        f"{run.root} holds no checkpoints/{LAST}; give the folder of a run that `fit` has "
        "written a checkpoint of"
    )


class RunChanged(LongskipError):
    """The settings or the data set are not those of the run that is to go on."""


def check_unchanged(run: RunDirectory, began: Description, now: Description) -> str | None:
    """Hold what a run would go on with against what its checkpoint was trained with.

    Images and masks may have been changed by intent, such as a label that was mended, so these
    are told; all else would be another training under the same name.

    Args:
        run: that is resumed.
        began: as its checkpoint says.
        now: as its config.yaml and the data set say today.

    Returns:
        What is to be said of changed images or masks; None where they are the same.

    Raises:
        RunChanged: classes, channels, net or another setting differ.
    """
    before, after = began.model_dump(mode="json"), now.model_dump(mode="json")
    for name in sorted(before["net"].keys() | after["net"].keys()):
        if before["net"].get(name) != after["net"].get(name):
            raise _changed(run, f"net.{name}", before["net"].get(name), after["net"].get(name))
    for name in ("channels", "task", "working_size", "patch", "seed"):
        if before[name] != after[name]:
            raise _changed(run, name, before[name], after[name])
    if began.normalising.kind != now.normalising.kind:
        raise _changed(run, "normalising", began.normalising.kind, now.normalising.kind)
    names = [[kind.name for kind in one.classes] for one in (began, now)]
    if names[0] != names[1]:
        raise _changed(run, "classes", *names)
    first, second = began.training_data, now.training_data
    if first is None or second is None:
        return None
    new, old = set(second.image_hashes), set(first.image_hashes)
    others = max(len(new - old), len(old - new))  # a copy in the place of another adds none
    masks = not np.allclose(first.class_pixel_fraction, second.class_pixel_fraction, atol=1e-9)
    if not others and not masks and first.images == second.images:
        return None
    what = f"{others} of {second.images} training images" if others else "training masks"
    return (
        f"{what} are not those that {run.root} began with: the result is of both. Put them back, "
        "or start a new run"
    )


def _changed(run: RunDirectory, name: str, before: object, after: object) -> RunChanged:
    return RunChanged(
        f"{run.root} was trained with {name} {before}, but its config.yaml or the data set now "
        f"says {after}; change that back, or start a new run from its weights by --init-from"
    )


def get_generators() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators, as checkpoints can hold."""
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), place],
        "numpy_gauss": [int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generators(states: dict[str, Any]) -> None:
    """Set what ``get_generators`` returned."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, place = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, *states["numpy_gauss"]))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _of_all_processes(own: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return (own,)
    states: list[dict[str, Any] | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, own)
    return tuple(state for state in states if state is not None)
