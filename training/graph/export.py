"""Export a run: checkpoint -> proved, self-contained ``model.onnx`` with its card."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from tqdm import tqdm

from contract.golden import make_golden
from contract.metrics import score_labels
from contract.model import Model
from contract.repository import next_version
from contract.spec import Mirror, ModelSpec, NetDescription, Precision
from contract.version import __version__
from imaging.channels import to_chw_float32
from training.calibrate.chart import write_reliability_plot
from training.calibrate.tune import Tuned
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask
from training.data.split import Split
from training.fit.checkpoint import Description
from training.graph.assemble import ModelGraph
from training.graph.gate import MAX_DICE_LOSS, judging_part
from training.graph.limits import tiles_for, whole_image_limit
from training.graph.members import Members, load_members
from training.graph.onnx_file import trace, with_spec
from training.graph.prove import ExportWrong, Proof, prove_parity
from training.graph.prove_gain import GainProof, prove_gain
from training.graph.skip_gain import check_has_dial, stay_in_blocks
from training.graph.variants import (
    Full,
    Refusal,
    Variant,
    make_variants,
    preferred,
    score_file,
)
from training.nets.cost import parameter_count
from training.report.card import write_card
from training.score.cases import (
    ScoredCase,
    mean_dice,
    spec_metrics,
)

GOLDEN_SEED = 20150518  # U-Net's day on arXiv
GOLDEN_SIZE = (72, 88)
# Rounding can flip labels at ties; more than this on the mean over validation is a wrong export.
MAX_DICE_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """Where the model lies and what its proof found.

    ``dice_file`` is the mean over all validation images, ``dice_checkpoint`` over those that the
    file takes whole, on which the two agree; ``tiled`` of them it takes in tiles, a checkpoint not.
    """

    path: Path
    spec: ModelSpec
    proof: Proof
    dice_checkpoint: float | None
    dice_file: float | None
    tiled: int = 0
    variants: tuple[Variant, ...] = ()
    refused: tuple[Refusal, ...] = ()
    gain_proof: GainProof | None = None


@dataclass(frozen=True)
class Assembly:
    """What is exported: members, what stands around them, and what was tuned for them.

    ``gated`` gives the file the input ``skip_gain``.
    """

    members: Members
    mirrors: tuple[Mirror, ...] = ()
    tuned: Tuned | None = None
    gated: bool = False

    @property
    def graph(self) -> ModelGraph:
        """All of it as one module."""
        return self.members.graph(
            mirrors=self.mirrors,
            temperature=self.temperature,
            thresholds_prob=self.thresholds_prob,
            gated=self.gated,
        )

    @property
    def temperature(self) -> float:
        """1 where none was tuned."""
        calibration = None if self.tuned is None else self.tuned.calibration
        return 1.0 if calibration is None else calibration.temperature

    @property
    def thresholds_prob(self) -> tuple[float, ...] | None:
        """None where none were tuned, or none were better."""
        return None if self.tuned is None else self.tuned.thresholds_prob

    @property
    def spec_fields(self) -> dict[str, Any]:
        """What the spec says of it."""
        return {
            "members": len(self.members.graphs),
            "mirrors": self.mirrors,
            "calibration": None if self.tuned is None else self.tuned.calibration,
            "thresholds_prob": self.thresholds_prob,
            "skip_gain_strides": self.members.graphs[0].net.skip_strides if self.gated else (),
        }


def export(
    source: Path | Assembly,
    *,
    name: str,
    to: Path,
    dataset: FolderDataset | None,
    split: Split | None,
    description: str = "",
    precisions: Sequence[Precision] = ("fp32",),
    max_dice_loss: float = MAX_DICE_LOSS,
    say: Callable[[str], None] = print,
) -> Exported:
    """Write ``<to>/<name>/<next version>/model.onnx`` and prove it, or write nothing.

    Args:
        source: a checkpoint that ``fit`` wrote, or several put together.
        name: of the model: small letters, digits, ``.``, ``_`` and ``-``.
        to: the model repository.
        dataset: with ``split``, the images that the file is scored on; None skips the scores.
        split: whose ``val`` part compares file and checkpoint; ``test`` is scored where it is
            not empty. For several members it is ``members.common_split``.
        description: one sentence for the card.
        precisions: which files to write; ``model.onnx`` is always there and fp32. The others need
            data set and split: int8 is calibrated on training images, ``judging_part`` is the gate.
        max_dice_loss: largest loss of Dice with which a variant passes its gate.
        say: takes one line of progress.

    Raises:
        ExportWrong: the architecture does not export, or file and checkpoint disagree.
        CheckpointUnreadable: the checkpoint does not load.
        RequestInvalid: gated, and the net has no long skip to turn.
    """
    assembly = source if isinstance(source, Assembly) else Assembly(load_members([source]))
    stored, graph = assembly.members.description, assembly.graph
    if graph.net.export_refusal is not None:
        raise ExportWrong(f"{stored.net['architecture']}: {graph.net.export_refusal}")
    if assembly.gated:
        check_has_dial(graph.net)
    spec = draft_spec(name, description, stored, graph)
    spec = spec.model_copy(update=assembly.spec_fields)
    say("tracing the graph")
    traced = trace(graph, channels=stored.channels)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to, prefix=".export-") as folder:
        path = Path(folder) / "model.onnx"
        full_precision = stay_in_blocks(traced)
        draft = _write(path, full_precision, spec)
        say("proving it against onnxruntime at sizes that were not traced")
        proof = prove_parity(graph, draft, intensity_range=_intensity_range(stored))
        gain_proof = None
        if assembly.gated:
            say("proving the dial: at rest against the file without it, turned against PyTorch")
            gain_proof = _prove_dial(assembly, draft, Path(folder))
        spec = spec.model_copy(update={"golden": _golden(draft, stored)})
        own_dice = file_dice = None
        tiled = 0
        if dataset is not None and split is not None:
            scored = {
                part: score_file(draft, dataset, stems, said=part)
                for part, stems in (("validation", split.val), ("test", split.test))
                if stems
            }
            if split.val:
                own_dice, file_dice = _compare(graph, draft, scored["validation"], dataset)
                tiled = sum(case.tiled for case in scored["validation"])
            elif split.test:  # K folds leave no image that validates all of them
                _compare(graph, draft, scored["test"], dataset)
            metrics = [
                m for part, cases in scored.items() for m in spec_metrics(draft, cases, part)
            ]
            spec = spec.model_copy(update={"metrics": tuple(metrics)})
        variants: list[Variant] = []
        refused: list[Refusal] = []
        part = None if split is None else judging_part(split)
        if dataset is not None and split is not None and part and set(precisions) != {"fp32"}:
            full = Full(graph, traced, draft, spec, part=part, judged=scored[part])
            variants, refused = make_variants(
                precisions,
                full,
                folder=Path(folder),
                dataset=dataset,
                split=split,
                max_dice_loss=max_dice_loss,
                say=say,
            )
            passed = {variant.model.precision for variant in variants}
            spec = spec.model_copy(update={"preferred_precision": preferred(passed, spec)})
        proved = _write(path, full_precision, spec)
        Model.open(path, device="cpu", prove=True)
        write_card(
            path.with_name("card.md"),
            proved,
            split=split,
            proof=proof,
            gain_proof=gain_proof,
            variants=variants,
        )
        target = to / name / str(next_version(to, name))
        target.parent.mkdir(exist_ok=True)
        finished = Path(folder) / "finished"
        finished.mkdir(mode=0o755)
        for file in (path, *(v.model.path for v in variants), path.with_name("card.md")):
            shutil.move(file, finished / file.name)
        if assembly.tuned is not None and assembly.tuned.calibration is not None:
            _write_reliability(finished / "reliability.png", name, assembly.tuned)
        # A rename is atomic: a service that watches the repository sees all of it or nothing.
        finished.rename(target)
    return Exported(
        path=target / "model.onnx",
        spec=spec,
        proof=proof,
        dice_checkpoint=own_dice,
        dice_file=file_dice,
        tiled=tiled,
        variants=tuple(variants),
        refused=tuple(refused),
        gain_proof=gain_proof,
    )


def draft_spec(name: str, description: str, stored: Description, graph: ModelGraph) -> ModelSpec:
    """Return the spec as far as it is known before the file has been run."""
    net = graph.net
    return ModelSpec(
        name=name,
        description=description,
        task=stored.task,
        classes=stored.classes,
        channels=stored.channels,
        colour_order="RGB" if stored.channels == 3 else "as stored",
        normalising=stored.normalising,
        divisor=graph.pad.divisor,
        working_size=stored.working_size,
        whole_image_max_pixels=whole_image_limit(graph, channels=stored.channels),
        tileable=net.tileable and stored.working_size is None,
        tiles=tiles_for(graph, tileable=net.tileable),
        net=NetDescription(
            architecture=stored.net["architecture"],
            encoder=None if stored.net["architecture"] == "unet" else stored.net["encoder"],
            long_skips=net.long_skips,
            widths=net.widths,
            block=stored.net["block"],
            norm=stored.net["norm"],
            activation=stored.net["activation"],
            parameters=parameter_count(net),
        ),
        training_data=stored.training_data,
        licence=stored.licence,
        code_version=__version__,
    )


def _prove_dial(assembly: Assembly, draft: Model, folder: Path) -> GainProof:
    bare = replace(assembly, gated=False)
    channels = draft.spec.channels
    spec = draft.spec.model_copy(update=bare.spec_fields)
    plain = _write(folder / "plain.onnx", trace(bare.graph, channels=channels), spec)
    intensity_range = _intensity_range(assembly.members.description)
    return prove_gain(assembly.graph, draft, plain, intensity_range=intensity_range)


def _write_reliability(path: Path, name: str, tuned: Tuned) -> None:
    curves = {"before": tuned.before, "after": tuned.after}
    write_reliability_plot(path, curves, title=f"{name}, validation pixels")


def _write(path: Path, traced: onnx.ModelProto, spec: ModelSpec) -> Model:
    path.write_bytes(with_spec(traced, spec))
    return Model.open(path, device="cpu", prove=False)


def _intensity_range(stored: Description) -> tuple[float, float]:
    """Return the range of raw intensities that the net has seen, whole numbers."""
    if stored.training_data is None:
        return 0.0, 255.0
    channels = stored.training_data.intensity_p01_p50_p99
    low, high = min(c[0] for c in channels), max(c[2] for c in channels)
    return float(np.floor(low)), float(np.ceil(max(high, low + 1)))


def _golden(draft: Model, stored: Description) -> object:
    run = partial(draft.run, outputs=("labels", "probabilities"))
    shape = (stored.channels, *GOLDEN_SIZE)
    return make_golden(run, GOLDEN_SEED, shape, _intensity_range(stored))


def _compare(
    graph: ModelGraph, draft: Model, scored: Sequence[ScoredCase], dataset: FolderDataset
) -> tuple[float, float]:
    """Return validation Dice of checkpoint and file; raise ExportWrong where they differ."""
    own: list[ScoredCase] = []
    for case in tqdm(scored, desc="scoring the checkpoint", unit="image", disable=None):
        if case.tiled:
            continue  # the checkpoint has no tiles; prove_parity covers what they share
        image = to_chw_float32(load_image(case.case, draft.spec.channels))
        with torch.inference_mode():
            labels = graph(torch.from_numpy(image)[None])[0][0].numpy()
        scores = score_labels(
            labels,
            load_mask(case.case, dataset.spec),
            task=draft.spec.task,
            n_classes=len(draft.spec.classes),
            ignore=IGNORE,
        )
        own.append(replace(case, scores=tuple(scores), labels=labels))
    whole = [case for case in scored if not case.tiled]
    checkpoint_dice, file_dice = mean_dice(draft, own), mean_dice(draft, whole)
    if abs(checkpoint_dice - file_dice) > MAX_DICE_DIFFERENCE:
        raise ExportWrong(
            f"Dice is {file_dice:.5f} through the file and {checkpoint_dice:.5f} "
            "through the checkpoint; the export is wrong"
        )
    return checkpoint_dice, mean_dice(draft, scored)
