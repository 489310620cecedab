"""``python -m training evaluate``: score a model file, never a checkpoint."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from tqdm import tqdm

from contract.errors import RequestInvalid
from contract.measures import METRICS
from contract.model import Model
from training.data.fingerprint import image_hash
from training.data.folder import FolderDataset, load_image, open_folder
from training.data.split import read_split
from training.score.cases import (
    ScoredCase,
    check_classes,
    score_cases,
    scored_classes,
    write_cases_csv,
    write_cases_json,
)
from training.score.choose import Choice, choose_metrics
from training.score.contact_sheet import contact_sheet
from training.score.pictures import write_picture
from training.score.rulers import Rulers, read_spacing, rulers_for
from training.score.summary import differences, summary_of, table

EXAMPLES = """examples:
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images \\
      --split runs/my-images-concat-1/split.json --part test --out scores
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images \\
      --against models/nuclei-noskip/1/model.onnx
  python -m training evaluate models/nuclei/1/model.onnx --data.root my-images \\
      --metrics dice,hd95,object_f1 --spacing-mm 0.25 --nsd-tolerance 0.5
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``evaluate``."""
    parser = ArgumentParser(
        prog="python -m training evaluate",
        description="Score a model file on a folder of images and masks: every metric per case "
        "and class as CSV and JSON, a summary with intervals, a contact sheet; two models are "
        "compared case by case.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="the .onnx file")
    parser.add_argument("--data.root", type=Path, required=True, help="folder of images and masks")
    parser.add_argument("--data.spec", type=Path, default=None, help="dataset.yaml elsewhere")
    parser.add_argument(
        "--split", type=Path, default=None, help="split.json of a run; without it all images"
    )
    parser.add_argument(
        "--part",
        choices=["train", "val", "test"],
        default=None,
        help="which part of --split (test)",
    )
    parser.add_argument("--against", type=Path, default=None, help="a second .onnx file, paired")
    parser.add_argument(
        "--metrics",
        type=str,
        default="auto",
        help="auto, all, or names with commas: " + ", ".join(METRICS) + ". auto leaves out clDice "
        "but for thin structures, and object_f1 but for classes of several objects",
    )
    parser.add_argument(
        "--spacing-mm",
        type=str,
        default=None,
        help="size of a pixel in mm, the same for all images: one number, or rows,columns. "
        "Without it as dataset.yaml says (spacing_columns: each image's own); else in pixels",
    )
    parser.add_argument(
        "--nsd-tolerance",
        type=float,
        default=None,
        help="distance within which outlines agree, in the unit of lengths (two pixels)",
    )
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder for the results")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "tensorrt"], default="auto")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Score, write, and print the table."""
    settings = build_parser().parse_args(list(arguments))
    if settings.spacing_mm is not None:
        read_spacing(settings.spacing_mm)  # refused before minutes of work
    model = Model.open(settings.model, device=settings.device)
    other = (
        None if settings.against is None else Model.open(settings.against, device=settings.device)
    )
    dataset = open_folder(
        settings.data.root, settings.data.spec, class_names=model.spec.class_names
    )
    check_classes(model, dataset)
    if other is not None:
        check_classes(other, dataset)
    stems = _stems(dataset, settings.split, settings.part)
    rulers = rulers_for(
        dataset, stems, spacing_mm=settings.spacing_mm, nsd_tolerance=settings.nsd_tolerance
    )
    metrics = choose_metrics(
        settings.metrics, dataset, dataset.select(stems), scored_classes(model)
    )
    seen = trained_on(model, dataset, stems)
    if seen:
        print(
            f"warning: {len(seen)} of {len(stems)} images are in the model's training set; the "
            "scores below are too good for them"
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    cases = _run(model, dataset, stems, metrics, rulers)
    write_cases_csv(settings.out / "cases.csv", model, cases)
    write_cases_json(settings.out / "cases.json", model, cases)
    summary = summary_of(model, cases, in_training_set=len(seen))
    scored = [(model, cases)]
    if other is not None:
        others = _run(other, dataset, stems, metrics, rulers)
        write_cases_csv(settings.out / "cases-against.csv", other, others)
        write_cases_json(settings.out / "cases-against.json", other, others)
        scored.append((other, others))
        summary["against"] = summary_of(other, others, in_training_set=None)
        summary["difference"] = differences(model, cases, others)
    (settings.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_picture(settings.out / "contact-sheet.png", contact_sheet(dataset, *scored))
    print(table(summary))
    against = "" if other is None else "cases-against.csv, cases-against.json, "
    print(f"{settings.out}/: cases.csv, cases.json, {against}summary.json, contact-sheet.png")
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


def _stems(dataset: FolderDataset, split_file: Path | None, part: str | None) -> list[str]:
    if split_file is None:
        if part is not None:
            raise RequestInvalid(
                f"--part {part} needs --split FILE, the split.json that says which images it holds"
            )
        return [case.stem for case in dataset.cases]
    part = part or "test"
    stems = list(getattr(read_split(split_file, dataset), part))
    if not stems:
        raise RequestInvalid(f"the part {part!r} of {split_file} is empty; choose another --part")
    return stems


def _run(
    model: Model,
    dataset: FolderDataset,
    stems: Sequence[str],
    metrics: Choice,
    rulers: Rulers,
) -> list[ScoredCase]:
    cases = score_cases(model, dataset, stems, metrics=metrics, rulers=rulers, uncertainty=True)
    return list(tqdm(cases, total=len(stems), desc=model.spec.name, unit="image", disable=None))
