"""``export --tune``: temperature and thresholds from images that the answering nets did not see.

Each validation image is answered by the members that it validated: with one split for all runs by
all of them, with K folds by the one whose fold it is in. The test part has no say, so that it can
tell afterwards what tuning was worth.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from contract.errors import RequestInvalid
from contract.spec import Calibration, Mirror
from training.calibrate.fit_temperature import fit_temperature
from training.calibrate.observe import Logits, observe, reliability_at
from training.calibrate.reliability import Reliability
from training.calibrate.tune_thresholds import tune_thresholds
from training.data.folder import FolderDataset
from training.data.split import Split
from training.graph.members import Members, common_split, unseen_by

TUNABLE = ("temperature", "thresholds")


@dataclass(frozen=True)
class Tuned:
    """What was fitted, and what it did on the images that it was fitted on.

    Attributes:
        calibration: for the spec; None where no temperature was asked for.
        thresholds_prob: for the spec; None where none was better than none.
        before: reliability as the nets answer.
        after: the same with the temperature.
        dice: mean Dice before and after thresholds; None where none were asked for.
    """

    calibration: Calibration | None
    thresholds_prob: tuple[float, ...] | None
    before: Reliability
    after: Reliability
    dice: tuple[float, float] | None


def read_tune(text: str) -> tuple[str, ...]:
    """Return what ``--tune`` names, e.g. ``temperature,thresholds``.

    Raises:
        RequestInvalid: a word that is not known.
    """
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [word for word in words if word not in TUNABLE]
    if unknown:
        raise RequestInvalid(f"--tune knows {', '.join(TUNABLE)}; got {', '.join(unknown)}")
    return words


def tune(
    members: Members,
    splits: Sequence[Split],
    dataset: FolderDataset,
    *,
    what: Collection[str],
    mirrors: Sequence[Mirror] = (),
    whole_image_max_pixels: int,
    say: Callable[[str], None] = print,
) -> Tuned:
    """Fit what ``what`` names on validation images.

    Args:
        members: that answer.
        splits: one per member.
        dataset: with the images of the splits.
        what: of ``TUNABLE``.
        mirrors: views that the members are shown, as in the file.
        whole_image_max_pixels: larger images, which the file would tile, are left out.
        say: takes one line of progress.

    Raises:
        RequestInvalid: there is no validation image to fit on.
    """
    held_out = set(common_split(splits).test)
    stems = [
        stem
        for stem in dict.fromkeys(stem for split in splits for stem in split.val)
        if stem not in held_out
        and dataset.facts[stem].height_px * dataset.facts[stem].width_px <= whole_image_max_pixels
    ]
    if not stems:
        raise RequestInvalid(
            "--tune fits on validation images, and there is none that fits into memory whole; "
            "train with --data.val_fraction above 0, or leave --tune out"
        )
    graphs: dict[frozenset[int], Logits] = {}

    def answers(stem: str) -> Logits:
        who = unseen_by(splits, stem)
        if who not in graphs:
            graphs[who] = members.graph(only=who, mirrors=mirrors).logits
        return graphs[who]

    description = members.description
    task = description.task
    found = observe(answers, dataset, stems, channels=description.channels)
    observed = list(tqdm(found, total=len(stems), desc="tuning", unit="image", disable=None))
    temperature = fit_temperature(observed, task) if "temperature" in what else 1.0
    before = reliability_at(observed, 1.0, task)
    after = reliability_at(observed, temperature, task)
    calibration = thresholds = dice = None
    if "temperature" in what:
        calibration = Calibration(
            temperature=temperature,
            images=len(stems),
            ece_before=round(before.ece, 5),
            ece_after=round(after.ece, 5),
            nll_before=round(before.mean_nll, 5),
            nll_after=round(after.mean_nll, 5),
        )
        say(
            f"temperature {temperature:.3f} from {len(stems)} validation images: calibration "
            f"error {before.ece:.4f} -> {after.ece:.4f}"
        )
    if "thresholds" in what:
        thresholds, *dice_pair = tune_thresholds(observed, task, temperature=temperature)
        dice = (dice_pair[0], dice_pair[1])
        say(
            f"thresholds left alone: none is better by 0.001 Dice (now {dice[0]:.4f})"
            if thresholds is None
            else f"thresholds {', '.join(f'{t:.3f}' for t in thresholds)} by class: Dice "
            f"{dice[0]:.4f} -> {dice[1]:.4f} on the images that chose them"
        )
    return Tuned(calibration, thresholds, before, after, dice)
