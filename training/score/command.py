"""``python -m training evaluate``: score a model file, never a checkpoint."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from tqdm import tqdm

from contract.errors import RequestInvalid
from contract.metrics import Summary, summarise
from contract.model import Model
from imaging.overlay import display_rgb
from training.data.fingerprint import image_hash
from training.data.folder import FolderDataset, load_image, load_mask, open_folder
from training.data.split import read_split
from training.score.cases import (
    ScoredCase,
    mean_dice,
    score_cases,
    scored_classes,
    summarise_cases,
    write_cases_csv,
)
from training.score.contact_sheet import side_by_side, tint, write_picture

EXAMPLES = """examples:
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images \\
      --split runs/my-images-concat-1/split.json --part test --out scores
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images \\
      --against models/nuclei-noskip/1/model.onnx
"""
SHEET_CASES = 12


def build_parser() -> ArgumentParser:
    """Return the command line of ``evaluate``."""
    parser = ArgumentParser(
        prog="python -m training evaluate",
        description="Score a model file on a folder of images and masks: a CSV row per case and "
        "class, a JSON summary, a contact sheet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="the .onnx file")
    parser.add_argument("--data.root", type=Path, required=True, help="folder of images and masks")
    parser.add_argument("--data.spec", type=Path, default=None, help="dataset.yaml elsewhere")
    parser.add_argument("--split", type=Path, default=None, help="split.json; with --part")
    parser.add_argument("--part", choices=["train", "val", "test"], default="test")
    parser.add_argument("--against", type=Path, default=None, help="a second .onnx file, paired")
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder for the results")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "tensorrt"], default="auto")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Score, write, and print the table."""
    settings = build_parser().parse_args(list(arguments))
    model = Model.open(settings.model, device=settings.device)
    other = (
        None if settings.against is None else Model.open(settings.against, device=settings.device)
    )
    dataset = open_folder(
        settings.data.root, settings.data.spec, class_names=model.spec.class_names
    )
    stems = _stems(dataset, settings.split, settings.part)
    seen = trained_on(model, dataset, stems)
    if seen:
        print(
            f"warning: {len(seen)} of {len(stems)} images are in the model's training set; the "
            "scores below are too good for them"
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    cases = _run(model, dataset, stems)
    write_cases_csv(settings.out / "cases.csv", model, cases)
    summary = summary_of(model, cases, in_training_set=len(seen))
    if other is not None:
        others = _run(other, dataset, stems)
        write_cases_csv(settings.out / "cases-against.csv", other, others)
        summary["against"] = summary_of(other, others, in_training_set=None)
        summary["dice_difference"] = paired_difference(model, cases, others)
    (settings.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_picture(settings.out / "contact-sheet.png", contact_sheet(model, dataset, cases))
    print(table(summary))
    print(f"{settings.out}/: cases.csv, summary.json, contact-sheet.png")
    return 0


def trained_on(model: Model, dataset: FolderDataset, stems: Sequence[str]) -> list[str]:
    """Return the stems whose decoded pixels are among the model's training images."""
    if model.spec.training_data is None or not model.spec.training_data.image_hashes:
        return []
    known = set(model.spec.training_data.image_hashes)
    cases = tqdm(
        dataset.select(stems), desc="looking for training images", unit="image", disable=None
    )
    return [c.stem for c in cases if image_hash(load_image(c, model.spec.channels)) in known]


def summary_of(
    model: Model, cases: Sequence[ScoredCase], *, in_training_set: int | None
) -> dict[str, Any]:
    """Return the JSON summary: per metric and class mean, interval, counts."""
    return {
        "model": model.spec.name,
        "sha256": model.sha256,
        "provider": model.provider,
        "precision": model.precision,
        "images": len(cases),
        "images_in_training_set": in_training_set,
        "mean_dice": mean_dice(model, cases),
        "metrics": {
            metric: {name: _plain(summary) for name, summary in by_class.items()}
            for metric, by_class in summarise_cases(model, cases).items()
        },
    }


def paired_difference(
    model: Model, cases: Sequence[ScoredCase], others: Sequence[ScoredCase]
) -> dict[str, dict[str, Any]]:
    """Return per class the mean difference of Dice, ours minus the other's, case by case."""
    return {
        model.spec.class_names[index]: _plain(
            summarise(
                [
                    own.scores[index].dice - other.scores[index].dice
                    for own, other in zip(cases, others, strict=True)
                ]
            )
        )
        for index in scored_classes(model)
    }


def contact_sheet(
    model: Model, dataset: FolderDataset, cases: Sequence[ScoredCase]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return image, truth and answer of the worst, the median and the best cases."""
    chosen = _worst_median_best(model, cases)
    palette = model.spec.palette
    rows = []
    for case in chosen:
        picture = display_rgb(load_image(case.case, model.spec.channels))
        truth = load_mask(case.case, dataset.spec)
        flat = model.spec.task == "multiclass"
        answer = case.labels if flat else _flatten(case.labels)
        truth = truth if flat else _flatten(truth)
        colours = palette if flat else ((0, 0, 0), *palette)
        caption = f"{case.case.stem}  Dice {_case_dice(model, case):.3f}"
        rows.append(
            (caption, [picture, tint(picture, truth, colours), tint(picture, answer, colours)])
        )
    return side_by_side(rows, titles=["image", "truth", model.spec.name])


def table(summary: dict[str, Any]) -> str:
    """Return the summary as aligned plain text."""
    lines = [f"{summary['model']}: {summary['images']} images"]
    width = max(len(name) for by_class in summary["metrics"].values() for name in by_class)
    for metric, by_class in summary["metrics"].items():
        for name, row in by_class.items():
            lines.append(f"  {metric:<5} {name:<{width}}  {_interval(row)}")
    for name, row in summary.get("dice_difference", {}).items():
        other = summary["against"]["model"]
        lines.append(f"  dice against {other}, {name:<{width}}  {_interval(row, sign=True)}")
    return "\n".join(lines)


def _interval(row: dict[str, Any], *, sign: bool = False) -> str:
    if row["mean"] is None:
        return f"not defined: all {row['excluded_empty']} cases empty"
    style = "+.4f" if sign else ".4f"
    text = f"{row['mean']:{style}}"
    if row["ci95"] is not None:
        text += f"  95 % {row['ci95'][0]:{style}} to {row['ci95'][1]:{style}}"
    return f"{text}  ({row['cases']} cases, {row['excluded_empty']} empty left out)"


def _stems(dataset: FolderDataset, split_file: Path | None, part: str) -> list[str]:
    if split_file is None:
        return [case.stem for case in dataset.cases]
    stems = list(getattr(read_split(split_file, dataset), part))
    if not stems:
        raise RequestInvalid(f"the part {part!r} of {split_file} is empty; choose another --part")
    return stems


def _run(model: Model, dataset: FolderDataset, stems: Sequence[str]) -> list[ScoredCase]:
    cases = score_cases(model, dataset, stems)
    return list(tqdm(cases, total=len(stems), desc=model.spec.name, unit="image", disable=None))


def _case_dice(model: Model, case: ScoredCase) -> float:
    values = [case.scores[index].dice for index in scored_classes(model)]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _worst_median_best(model: Model, cases: Sequence[ScoredCase]) -> list[ScoredCase]:
    ranked = sorted(cases, key=lambda case: (_case_dice(model, case), case.case.stem))
    if len(ranked) <= SHEET_CASES:
        return ranked
    third = SHEET_CASES // 3
    middle = len(ranked) // 2 - third // 2
    return [*ranked[:third], *ranked[middle : middle + third], *ranked[-third:]]


def _flatten(labels_khw: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Show overlapping classes as one picture: the last class on top."""
    flat = np.zeros(labels_khw.shape[1:], dtype=np.uint8)
    for index, plane in enumerate(labels_khw, start=1):
        flat[plane == 1] = index
    return flat


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "mean": summary.mean,
        "ci95": summary.ci95,
        "cases": summary.cases,
        "excluded_empty": summary.excluded_empty,
    }
