"""``python -m training export``: a run becomes a model file."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from contract.errors import RequestInvalid
from contract.spec import NAME_PATTERN
from training.data.folder import FolderDataset, open_folder
from training.data.split import read_split

EXAMPLES = """examples:
  python -m training export runs/my-images-concat-1 --name nuclei
  python -m training export runs/my-images-concat-1 --name nuclei --checkpoint last --to /srv/models
  python -m training export runs/my-images-concat-1 --name nuclei --precision fp32,fp16,int8
  python -m training export runs/fold-0 runs/fold-1 runs/fold-2 --name nuclei --mirror \\
      --tune temperature,thresholds
  python -m training export runs/my-images-concat-1 --name nuclei --gated
  python -m training export runs/elsewhere --name nuclei --data.root /new/place/of/my-images
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``export``."""
    parser = ArgumentParser(
        prog="python -m training export",
        description="Write <to>/<name>/<next version>/model.onnx from a run, and prove it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument(
        "run",
        type=Path,
        nargs="+",
        help="run directory that fit wrote; several (folds, seeds), or the folder of --data.fold "
        "all, become one file that answers the mean of their probabilities",
    )
    parser.add_argument("--name", type=str, required=True, help="name of the model")
    parser.add_argument("--to", type=Path, default=Path("models"), help="model repository")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--description", type=str, default="", help="one sentence for the card")
    parser.add_argument(
        "--data.root", type=Path, default=None, help="the data set, where it has moved since"
    )
    parser.add_argument(
        "--precision",
        type=str,
        default="fp32",
        help="files to write, e.g. fp32,fp16,int8; fp32 is always written, as model.onnx",
    )
    parser.add_argument(
        "--max-dice-loss",
        type=float,
        default=0.005,
        help="a variant that loses more validation Dice against fp32 is left out (of folds: test "
        "Dice, as they have no validation image in common)",
    )
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="also ask the net for the mirrored image, in each way that it was trained on, and "
        "answer the mean: two or four times the work",
    )
    parser.add_argument(
        "--tune",
        type=str,
        default="",
        help="temperature,thresholds or one of them: fit on the validation images what makes "
        "probabilities honest, and the class thresholds of highest Dice",
    )
    parser.add_argument(
        "--gated",
        action="store_true",
        help="give the file an optional input skip_gain, which turns each long skip down or up "
        "when it is asked; without it the answers are the same, a few percent slower",
    )
    parser.add_argument(
        "--no-scores",
        action="store_true",
        help="do without the data set: the file is proved against the checkpoint on synthetic "
        "pictures only, and the card has no metrics",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Export, prove, and print where the file lies."""
    settings = build_parser().parse_args(list(arguments))
    # torch and Lightning take seconds to import; --help and usage errors do without.
    from training.calibrate.tune import read_tune, tune
    from training.fit.folds import runs_of
    from training.graph.export import Assembly, export
    from training.graph.gate import judging_part
    from training.graph.limits import whole_image_limit
    from training.graph.members import allowed_mirrors, common_split, load_members
    from training.graph.skip_gain import check_has_dial
    from training.graph.variants import read_precisions

    if re.fullmatch(NAME_PATTERN, settings.name) is None:
        raise RequestInvalid(
            f"--name {settings.name!r} is no model's name: give up to 64 lower-case letters, "
            "digits, '.', '_' or '-', a letter or digit first, such as nuclei-2"
        )
    if len({path.resolve() for path in settings.run}) < len(settings.run):
        raise RequestInvalid("a run is given twice; name each once, for each is one member")
    precisions, tunables = read_precisions(settings.precision), read_tune(settings.tune)
    if tunables and settings.no_scores:
        raise RequestInvalid("--tune needs the validation images; leave --no-scores or --tune out")
    runs = runs_of(settings.run)
    run = runs[0]
    members = load_members([one.checkpoint(settings.checkpoint) for one in runs])
    if settings.gated:
        check_has_dial(members.graphs[0].net)
    configs = [yaml.safe_load(one.config.read_text()) for one in runs]
    mirrors = allowed_mirrors(configs, members.description) if settings.mirror else ()
    dataset, split, tuned = None, None, None
    if not settings.no_scores:
        dataset = _dataset(configs, settings.data.root)
        splits = [read_split(one.split, dataset) for one in runs]
        split = common_split(splits)
        if not split.val and not split.test:
            print(
                "no image was unseen by all of these runs, so the card has no scores; train with "
                "--data.test_fraction above 0 to have some"
            )
        if tunables:
            limit = whole_image_limit(members.graphs[0], channels=members.description.channels)
            tuned = tune(
                members,
                splits,
                dataset,
                what=tunables,
                mirrors=mirrors,
                whole_image_max_pixels=limit,
            )
    if len(precisions) > 1 and (split is None or judging_part(split) is None):
        raise RequestInvalid(
            f"--precision {settings.precision} needs the run's data set with a validation part, "
            "which every variant has to pass, or with a test part where folds have no validation "
            "image in common; leave out --no-scores, export fp32 only, or train with "
            "--data.test_fraction above 0"
        )
    exported = export(
        Assembly(members, mirrors=mirrors, tuned=tuned, gated=settings.gated),
        name=settings.name,
        to=settings.to,
        dataset=dataset,
        split=split,
        description=settings.description,
        precisions=precisions,
        max_dice_loss=settings.max_dice_loss,
    )
    print(
        f"proved at {exported.proof.cases} sizes and batches: probabilities within "
        f"{exported.proof.max_probability_error:.1e} of the checkpoint's"
    )
    if exported.gain_proof is not None:
        off = exported.gain_proof.default_difference
        print(
            f"the dial: at rest {'bit for bit' if off == 0 else f'within {off:.1e} of'} the file "
            f"without it; turned in {exported.gain_proof.cases} ways, within "
            f"{exported.gain_proof.max_probability_error:.1e} of PyTorch"
        )
    if exported.dice_file is not None:
        on = f" on all but the {exported.tiled} that are tiled" if exported.tiled else ""
        print(
            f"validation Dice {exported.dice_file:.4f} through the file; "
            f"{exported.dice_checkpoint:.4f} through file and checkpoint alike{on}"
        )
    print(f"{exported.path} ({os.path.getsize(exported.path) / 1e6:.2f} MB)")
    for variant in exported.variants:
        path = exported.path.with_name(variant.model.path.name)
        lost = round(variant.dice_loss, 4) + 0.0  # or -0.00001 reads -0.0000
        print(
            f"{path} ({os.path.getsize(path) / 1e6:.2f} MB): {variant.part} Dice "
            f"{variant.dice:.4f}, {lost:+.4f} lost"
        )
    for refusal in exported.refused:
        print(f"left out: {refusal.reason}")
    part = f"--split {run.split} --part test" if split is not None and split.test else ""
    root = "DIR" if dataset is None else shlex.quote(str(dataset.root))
    print(f"next: python -m training evaluate {exported.path} --data.root {root} {part}".rstrip())
    return 1 if exported.refused else 0


def _dataset(configs: Sequence[dict[str, Any]], moved_to: Path | None) -> FolderDataset:
    roots = {str(config["data"]["root"]) for config in configs}
    if len(roots) > 1 and moved_to is None:
        raise RequestInvalid(
            f"the runs were trained on {', '.join(sorted(roots))}; give the one folder that holds "
            "the images of all by --data.root, or --no-scores"
        )
    spec = configs[0]["data"].get("spec")
    root = Path(roots.pop()) if moved_to is None else moved_to
    if not root.is_dir():
        raise RequestInvalid(
            f"the run's data set {root} is not there; give its new place by --data.root, or "
            "--no-scores to export without scores"
        )
    return open_folder(root, None if spec is None else Path(spec))
