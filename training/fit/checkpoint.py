"""A checkpoint that describes itself: it can be exported without the run it came from."""

import pickle
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from contract.errors import LongskipError
from contract.spec import Normalising, Part, PositiveInt, SegmentClass, TrainingData
from training.graph.assemble import ModelGraph
from training.nets.build import build_net
from training.nets.config import NetConfig

CHECKPOINT_KEY = "longskip"


class CheckpointUnreadable(LongskipError):
    """A checkpoint is missing, truncated, or not one of Longskip's."""


class Description(Part):
    """What the weights belong to; stored in the checkpoint as plain JSON types.

    ``net`` holds the fields of ``NetConfig``. Sizes are (H, W) in pixels.
    """

    net: dict[str, Any]
    channels: PositiveInt
    classes: tuple[SegmentClass, ...] = Field(min_length=1)
    task: Literal["multiclass", "multilabel"]
    normalising: Normalising
    working_size: tuple[PositiveInt, PositiveInt] | None
    patch: tuple[PositiveInt, PositiveInt] | None
    training_data: TrainingData | None
    licence: str = "unknown"
    seed: int

    def build_graph(self) -> ModelGraph:
        """Return the stages around a net with fresh weights."""
        config = net_config(self.net)
        return ModelGraph(
            build_net(config, channels=self.channels, classes=len(self.classes)),
            normalising=self.normalising,
            task=self.task,
            working_size=self.working_size,
        )


def net_fields(config: NetConfig) -> dict[str, Any]:
    """Return the fields of ``config`` as a checkpoint stores them."""
    fields = asdict(config)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


def net_config(fields: dict[str, Any]) -> NetConfig:
    """Return the ``NetConfig`` of fields stored by ``net_fields``.

    Downloaded encoder weights are not asked for again: the checkpoint brings its own.
    """
    tuples: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()
    }
    return NetConfig(**{**tuples, "encoder_weights": None})


def read_checkpoint(path: Path) -> tuple[Description, dict[str, torch.Tensor]]:
    """Return the description and the graph's weights of the checkpoint at ``path``.

    Raises:
        CheckpointUnreadable: there is no file, it is truncated, or Longskip did not write it.
    """
    stored = read_whole(path)
    if CHECKPOINT_KEY not in stored:
        raise CheckpointUnreadable(
            f"{path} has no {CHECKPOINT_KEY!r} entry: it was not written by `training fit`"
        )
    description = Description.model_validate(stored[CHECKPOINT_KEY])
    prefix = "graph."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in stored["state_dict"].items()
        if name.startswith(prefix)
    }
    return description, weights


def read_whole(path: Path) -> dict[str, Any]:
    """Return all that the checkpoint at ``path`` holds.

    Raises:
        CheckpointUnreadable: there is no file, or it is truncated or damaged.
    """
    if not path.is_file():
        raise CheckpointUnreadable(f"{path} is not there; give a checkpoint that `fit` wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.load does not look at the checksums that torch.save writes.
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, EOFError, pickle.UnpicklingError, OSError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise CheckpointUnreadable(
            f"{path} does not load ({type(error).__name__}); it may be truncated or damaged: try "
            "last.ckpt or best.ckpt beside it"
        ) from error
    return stored


def load_graph(path: Path) -> tuple[Description, ModelGraph]:
    """Return the checkpoint's description and its ``ModelGraph`` in eval mode on the CPU."""
    description, weights = read_checkpoint(path)
    graph = description.build_graph()
    graph.load_state_dict(weights)
    return description, graph.eval()


def initialise_from(graph: ModelGraph, path: Path) -> list[str]:
    """Copy all weights of the checkpoint at ``path`` that fit by name and shape into ``graph``.

    Returns:
        Names of the tensors of ``graph`` that keep their fresh values (another class count, say).

    Raises:
        CheckpointUnreadable: the file does not load, or not one tensor fits.
    """
    _, weights = read_checkpoint(path)
    own = graph.state_dict()
    fitting = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
    if not fitting:
        raise CheckpointUnreadable(
            f"{path}: none of its {len(weights)} tensors fits this net; the net settings differ"
        )
    graph.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
