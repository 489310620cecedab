"""Runs that answer together: checked to agree, and put into one graph."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from contract.errors import LongskipError, RequestInvalid
from contract.spec import Mirror, TrainingData
from training.data.recipe import AugmentConfig
from training.data.split import Split
from training.fit.checkpoint import Description, load_graph
from training.graph.assemble import ModelGraph


class MembersDisagree(LongskipError):
    """Runs that cannot answer together: they take or give different things."""


@dataclass(frozen=True)
class Members:
    """One or more trained nets that agree in all but their weights and training images."""

    descriptions: tuple[Description, ...]
    graphs: tuple[ModelGraph, ...]

    @property
    def description(self) -> Description:
        """The first one's, with the training images of all."""
        seen = [d.training_data for d in self.descriptions if d.training_data is not None]
        if len(seen) < 2:
            return self.descriptions[0]
        return self.descriptions[0].model_copy(update={"training_data": _together(seen)})

    def graph(
        self,
        *,
        only: Collection[int] | None = None,
        mirrors: Sequence[Mirror] = (),
        temperature: float = 1.0,
        thresholds_prob: Sequence[float] | None = None,
        gated: bool = False,
    ) -> ModelGraph:
        """Return one graph in eval mode whose probabilities are the members' mean.

        Args:
            only: indices of the members to ask; None asks all.
            mirrors: further views that every member is shown.
            temperature: divides the pooled logits.
            thresholds_prob: one per class, for the labels.
            gated: whether the file is to take ``skip_gain``.
        """
        nets = [g.net for i, g in enumerate(self.graphs) if only is None or i in only]
        first = self.descriptions[0]
        return ModelGraph(
            nets[0],
            normalising=first.normalising,
            task=first.task,
            working_size=first.working_size,
            more_nets=nets[1:],
            mirrors=mirrors,
            temperature=temperature,
            thresholds_prob=thresholds_prob,
            gated=gated,
        ).eval()


def load_members(checkpoints: Sequence[Path]) -> Members:
    """Load checkpoints that are to answer together.

    Raises:
        CheckpointUnreadable: one does not load.
        MembersDisagree: two differ in what they take, what they give or how they are built.
    """
    loaded = [load_graph(path) for path in checkpoints]
    first = loaded[0][0]
    for path, (other, _) in zip(checkpoints[1:], loaded[1:], strict=True):
        for name, have, want in _compared(other, first):
            if have != want:
                raise MembersDisagree(
                    f"{path} has {name} {have}, {checkpoints[0]} has {want}; runs that answer "
                    "together must agree in it. Train them with the same settings, differing in "
                    "--data.fold or --seed only" + _remedy(name, first)
                )
    return Members(tuple(d for d, _ in loaded), tuple(graph for _, graph in loaded))


def common_split(splits: Sequence[Split]) -> Split:
    """Return the split of all members together: no image in ``val`` or ``test`` trained any.

    With K folds every image but the held-out ones trained some member, so ``val`` is empty.
    """
    if len(splits) == 1:
        return splits[0]
    train = set[str]().union(*(split.train for split in splits))
    test = set(splits[0].test).intersection(*(split.test for split in splits)) - train
    val = set[str]().union(*(split.val for split in splits)) - train - test

    def in_order(stems: Collection[str]) -> tuple[str, ...]:
        first = splits[0]
        known = dict.fromkeys([*first.train, *first.val, *first.test])
        known.update(dict.fromkeys(s for split in splits for s in (*split.train, *split.val)))
        return tuple(stem for stem in known if stem in stems)

    return replace(
        splits[0], train=in_order(train), val=in_order(val), test=in_order(test), fold=None
    )


def unseen_by(splits: Sequence[Split], stem: str) -> frozenset[int]:
    """Return the indices of the members that ``stem`` validated."""
    return frozenset(index for index, split in enumerate(splits) if stem in split.val)


def allowed_mirrors(
    configs: Sequence[Mapping[str, Any]], description: Description
) -> tuple[Mirror, ...]:
    """Return the mirrorings that every run met in training.

    Args:
        configs: each run's ``config.yaml``.
        description: classes and channels; classes named after a side allow none.

    Raises:
        RequestInvalid: there is no mirroring that all runs were trained on.
    """
    names = tuple(c.name for c in description.classes)
    recipes = [
        AugmentConfig(**(config.get("augment") or {})).recipe(
            class_names=names, channels=description.channels
        )
        for config in configs
    ]
    across = all(recipe.flip_horizontal for recipe in recipes)
    upright = all(recipe.flip_vertical for recipe in recipes)
    mirrors: list[Mirror] = []
    if across:
        mirrors.append("horizontal")
    if upright:
        mirrors.append("vertical")
    if across and upright:
        mirrors.append("both")
    if not mirrors:
        raise RequestInvalid(
            "--mirror shows the net mirrored images, but it was not trained on any (classes named "
            "after a side of the body, augment.kind xray or none, or flips turned off), so its "
            "answers for them are not to be trusted; leave --mirror out"
        )
    return tuple(mirrors)


def _compared(other: Description, first: Description) -> list[tuple[str, Any, Any]]:
    own, firsts = ([c.name for c in d.classes] for d in (other, first))
    return [
        ("task", other.task, first.task),
        ("channels", other.channels, first.channels),
        ("classes", own, firsts),
        ("normalising", other.normalising, first.normalising),
        ("working size", other.working_size, first.working_size),
        # The divisor follows from the net's settings, and the spec describes one net.
        ("net settings", other.net, first.net),
    ]


def _remedy(name: str, first: Description) -> str:
    if name != "normalising" or first.normalising.kind != "fixed":
        return ""
    return (
        "; with --normalising fixed each fold has the mean of its own training images, so take "
        "--normalising image, or one --data.split_file and another --seed for each"
    )


def _together(seen: Sequence[TrainingData]) -> TrainingData:
    hashes = tuple(dict.fromkeys(h for one in seen for h in one.image_hashes))
    counts = [one.images for one in seen]

    def extremes(spans: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
        return (
            min(low for low, _, _ in spans),
            float(median(middle for _, middle, _ in spans)),
            max(high for _, _, high in spans),
        )

    channels = zip(*(one.intensity_p01_p50_p99 for one in seen), strict=True)
    shares = zip(*(one.class_pixel_fraction for one in seen), strict=True)
    weights = [count / sum(counts) for count in counts]
    return TrainingData(
        images=max(len(hashes), *counts),
        height_min_median_max=extremes([one.height_min_median_max for one in seen]),
        width_min_median_max=extremes([one.width_min_median_max for one in seen]),
        intensity_p01_p50_p99=tuple(extremes(channel) for channel in channels),
        class_pixel_fraction=tuple(
            sum(weight * share for weight, share in zip(weights, by_class, strict=True))
            for by_class in shares
        ),
        image_hashes=hashes,
    )
