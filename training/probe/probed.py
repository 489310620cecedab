"""What a probe of a trained net looks at: the net, and images that it was not trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from contract.decision import labels_of
from contract.errors import DataError, RequestInvalid
from contract.metrics import ClassScore, score_labels
from contract.statistics import image_statistics
from contract.tiling import blend_bands
from imaging.channels import to_chw_float32
from training.data.case import Case
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask, open_folder
from training.data.split import Split, read_split
from training.data.stems import natural_key
from training.fit.checkpoint import Description, load_graph
from training.fit.run_directory import RunDirectory
from training.fit.validation_tiles import memory_of, tiles_where_too_large
from training.graph.assemble import ModelGraph

Part = Literal["train", "val", "test"]
LISTED = 5


@dataclass(frozen=True)
class Probed:
    """A trained net and the images to look at it with.

    Attributes:
        graph: in eval mode; where its weights lie, it is run.
        description: what the weights belong to.
        dataset: that has the images.
        stems: images to look at, in natural order.
        seed: of all that a probe draws.
        name: of the net, in tables and figures.
        trained_on: stems of the images that it was trained on, as far as the run tells.
    """

    graph: ModelGraph
    description: Description
    dataset: FolderDataset
    stems: tuple[str, ...]
    seed: int = 0
    name: str = "net"
    trained_on: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check that net and images belong together.

        Raises:
            DataError: no image, a stem that is not there, or other classes or channels.
            ValueError: the graph is in training mode.
        """
        if self.graph.training:
            raise ValueError("the graph is in training mode; call graph.eval() before probing it")
        if not self.stems:
            raise DataError("no image to look at; choose another --part or a larger --limit")
        self.dataset.select(self.stems)
        have, want = self.dataset, self.description
        if len(have.classes) != len(want.classes) or have.spec.task != want.task:
            raise DataError(
                f"{have.root} has {len(have.classes)} classes "
                f"({', '.join(c.name for c in have.classes)}; {have.spec.task}), the net "
                f"{self.name} has {len(want.classes)} ({', '.join(self.class_names)}; "
                f"{want.task}). Give a dataset.yaml with the net's classes by --data.spec"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index."""
        return tuple(entry.name for entry in self.description.classes)

    @property
    def foreground(self) -> range:
        """Indices of the classes that are reported: all but a background."""
        return range(self.description.task == "multiclass", len(self.description.classes))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.graph.parameters()).device

    def images(self, doing: str) -> Iterator["ProbedImage"]:
        """Read the images one after the other; ``doing`` stands beside the progress."""
        for stem in tqdm(self.stems, desc=f"{doing} {self.name}", unit="image", disable=None):
            yield self.image(stem)

    def image(self, stem: str) -> "ProbedImage":
        """Read one image."""
        (case,) = self.dataset.select([stem])
        pixels_hwc = load_image(case, self.description.channels)
        truth = load_mask(case, self.dataset.spec)
        return ProbedImage(case, pixels_hwc, to_chw_float32(pixels_hwc), truth)

    @property
    def groups(self) -> list[str | None]:
        """Of each image: what must not be taken for independent."""
        return [case.group for case in self.dataset.select(self.stems)]

    def answer(self, image_chw: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return labels ``[H, W]`` (multilabel ``[K, H, W]``) of raw intensities ``[C, H, W]``.

        An image past the machine's memory goes through in tiles, as it does in validation.
        """
        graph, classes = self.graph, len(self.description.classes)
        batch = torch.from_numpy(image_chw)[None].to(self.device)
        with torch.inference_mode():
            tiles = tiles_where_too_large(
                graph, batch, classes=classes, memory_bytes=memory_of(self.device)
            )
            if tiles is None:
                whole: NDArray[np.uint8] = (
                    graph.activate.labels(graph.logits(batch))[0].cpu().numpy()
                )
                return whole
            statistics = torch.from_numpy(image_statistics(image_chw).astype(np.float32))[None]

            def run_tile(tile_chw: NDArray[np.float32]) -> NDArray[np.float32]:
                tile = torch.from_numpy(np.ascontiguousarray(tile_chw))[None].to(self.device)
                logits = graph.logits(tile, statistics.to(self.device))
                found: NDArray[np.float32] = graph.activate(logits)[1][0].float().cpu().numpy()
                return found

            return np.concatenate(
                [
                    labels_of(band.probabilities, self.description.task)
                    for band in blend_bands(image_chw, run_tile, tiles, n_classes=classes)
                ],
                axis=-2,
            )

    def score(self, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> list[ClassScore]:
        """Return the overlap of each class; ignored pixels are left out."""
        return score_labels(
            labels,
            truth,
            task=self.description.task,
            n_classes=len(self.description.classes),
            ignore=IGNORE,
        )


@dataclass(frozen=True, eq=False)
class ProbedImage:
    """One image as it is read.

    Attributes:
        case: its files and group.
        pixels_hwc: at its own bit depth.
        image_chw: the same intensities as float32, which the net takes.
        truth: class indices ``[H, W]``, multilabel 0/1 ``[K, H, W]``; 255 is ignored.
    """

    case: Case
    pixels_hwc: NDArray[np.generic]
    image_chw: NDArray[np.float32]
    truth: NDArray[np.uint8]


def open_probed(
    source: Path,
    *,
    root: Path | None = None,
    spec: Path | None = None,
    part: Part | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Probed:
    """Open a run directory (its best checkpoint) or one checkpoint, and its images.

    Args:
        source: run directory, or a ``.ckpt`` in one or by itself.
        root: the data set; None: where the run had it.
        spec: its dataset.yaml, where it is elsewhere; None: as the run had it.
        part: of the run's split; None: ``val``, or ``test`` where no image validates. A checkpoint
            without a run takes all images of the folder.
        limit: look at no more images than this, drawn by ``seed``.
        seed: of all that is drawn.
        device: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        LongskipError: there is no checkpoint or data set, or they do not belong together.
    """
    run, checkpoint = _run_of(source)
    description, graph = load_graph(checkpoint)
    settings = {} if run is None else yaml.safe_load(run.config.read_text(encoding="utf-8"))["data"]
    root = root or (Path(settings["root"]) if "root" in settings else None)
    if root is None or not root.is_dir():
        where = "no run stands beside the checkpoint" if root is None else f"{root} is not there"
        raise RequestInvalid(f"{where}; say where the images are by --data.root DIR")
    if spec is None and settings.get("spec") is not None:
        spec = Path(settings["spec"])
    names = [entry.name for entry in description.classes]
    dataset = open_folder(root, spec, class_names=names)
    split = None if run is None else read_split(run.split, dataset)
    stems = _part_of(split, part, dataset, source)
    if limit is not None and limit < len(stems):
        drawn = np.random.default_rng(seed).choice(len(stems), max(limit, 1), replace=False)
        stems = tuple(sorted((stems[place] for place in drawn), key=natural_key))
    return Probed(
        graph=graph.to(_device(device)),
        description=description,
        dataset=dataset,
        stems=stems,
        seed=seed,
        name=_name(source, run),
        trained_on=frozenset(split.train) if split is not None else frozenset(),
    )


def open_beside(first: Probed, source: Path) -> Probed:
    """Open another net to be held against ``first``, on the very same images.

    Raises:
        LongskipError: there is no checkpoint, or it does not fit the images.
    """
    run, checkpoint = _run_of(source)
    description, graph = load_graph(checkpoint)
    name = _name(source, run)
    return Probed(
        graph=graph.to(first.device),
        description=description,
        dataset=first.dataset,
        stems=first.stems,
        seed=first.seed,
        name=name if name != first.name else f"{name} (2)",
        trained_on=frozenset() if run is None else frozenset(read_split(run.split).train),
    )


def _run_of(source: Path) -> tuple[RunDirectory | None, Path]:
    """Return the run that ``source`` is, or lies in, and the checkpoint."""
    if source.is_dir():
        run = RunDirectory(source)
        checkpoint = run.checkpoint("best")
    else:
        run, checkpoint = RunDirectory(source.resolve().parent.parent), source
    complete = run.config.is_file() and run.split.is_file()
    if source.is_dir() and not complete:
        raise RequestInvalid(
            f"{source} lacks config.yaml or split.json; give a folder that `fit` wrote, or one of "
            "its checkpoints with --data.root"
        )
    return run if complete else None, checkpoint


def _part_of(
    split: Split | None, part: Part | None, dataset: FolderDataset, source: Path
) -> tuple[str, ...]:
    if split is None:
        if part is not None:
            raise RequestInvalid(
                f"--part {part} needs a run's split.json, and {source} lies in no run; without "
                "--part all images of the folder are looked at"
            )
        return tuple(case.stem for case in dataset.cases)
    chosen = part or ("val" if split.val else "test")
    stems = cast("tuple[str, ...]", getattr(split, chosen))
    if not stems:
        raise RequestInvalid(f"the run has no {chosen} images; choose another --part")
    return stems


def _name(source: Path, run: RunDirectory | None) -> str:
    if run is None:
        return source.stem
    root = run.root.resolve()
    # The run of a study's cell is called by its arm.
    in_cell = root.name == "run" and (root.parent / "cell.yaml").is_file()
    name = f"{root.parent.parent.name} {root.parent.name}" if in_cell else root.name
    return name if source.is_dir() or source.stem == "best" else f"{name} {source.stem}"


def _device(word: str) -> torch.device:
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    if word == "cuda" and not torch.cuda.is_available():
        raise RequestInvalid("--device cuda, but torch finds no GPU; leave it out, or give cpu")
    return torch.device(word)


def seen_in_training(probed: Probed) -> str | None:
    """Return a warning where the net was trained on images that it is looked at with."""
    seen = [stem for stem in probed.stems if stem in probed.trained_on]
    if not seen:
        return None
    some = ", ".join(seen[:LISTED]) + (" …" if len(seen) > LISTED else "")
    return (
        f"{probed.name} was trained on {len(seen)} of the {len(probed.stems)} images ({some}): its "
        "figures are too good for them"
    )


def unlike(nets: Sequence[Probed]) -> str | None:
    """Return why nets cannot be held against each other, or None."""
    if len({net.name for net in nets}) < len(nets):
        return f"two nets have one name: {', '.join(net.name for net in nets)}; name each its own"
    if len({net.stems for net in nets}) > 1:
        return "the nets are not looked at with the same images; open the others by open_beside"
    return None
