"""``python -m training doctor``: look at a data set before training on it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from contract.errors import DataError
from training.data.check import shown
from training.data.findings import grouped
from training.data.spec import SPEC_FILE, read_dataset_spec
from training.data.survey import survey
from training.doctor.examination import Examination, examine
from training.doctor.page import verdict, write_page
from training.doctor.proposal import Proposal, propose, write_proposal
from training.doctor.record import write_record
from training.doctor.summary import summary_rows

EXAMPLES = """examples:
  python -m training doctor my-images
  python -m training doctor my-images --split runs/a/split.json --strict
  python -m training doctor my-images --write-spec my-images/dataset.yaml

exit code: 0 without faults (with --strict: without warnings too), else 1; with --write-spec the
faults that the written file leaves count
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of ``doctor``."""
    parser = argparse.ArgumentParser(
        prog="python -m training doctor",
        description="Find what would break or spoil a training: each finding with file and remedy.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("root", type=Path, metavar="DIR", help="folder with images/ and masks/")
    parser.add_argument("--spec", type=Path, help="dataset.yaml, where it is not in DIR")
    parser.add_argument("--split", type=Path, help="a split file, to look for leaks between parts")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for doctor.json and doctor.html (runs/doctor-<name of DIR>)",
    )
    parser.add_argument(
        "--write-spec",
        type=Path,
        metavar="FILE",
        help="write the proposed meaning of refused masks as a dataset.yaml; where numbers cannot "
        "say it, converted masks come beside it in masks_indexed/",
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 on warnings too")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Examine, tell, write, and return whether the set is clean."""
    settings = build_parser().parse_args(list(arguments))
    root: Path = settings.root
    examined = examine(root, settings.spec, settings.split)
    proposal = propose(examined)
    print(_told(examined))
    out: Path = settings.out or Path("runs") / f"doctor-{root.resolve().name}"
    out.mkdir(parents=True, exist_ok=True)
    write_record(examined, out / "doctor.json")
    write_page(examined, proposal, out / "doctor.html")
    print(f"pictures: {out / 'doctor.html'}, all values: {out / 'doctor.json'}")
    faults = examined.count("fault")
    if settings.write_spec is not None:
        faults = _write_spec(examined, proposal, settings.write_spec)
    bad = faults + (examined.count("warning") if settings.strict else 0)
    return 1 if bad else 0


def _told(examined: Examination) -> str:
    root = examined.surveyed.root
    rows = list(summary_rows(examined))
    width = max(len(what) for what, _ in rows)
    lines = [f"{root}", *(f"  {what:<{width}}  {how}" for what, how in rows)]
    for group in examined.groups:
        first, *rest = group.lines(root)
        lines += ["", f"{group.first.severity}: {first}", *(f"  {line}" for line in rest)]
    return "\n".join([*lines, "", verdict(examined)])


def _write_spec(examined: Examination, proposal: Proposal | None, path: Path) -> int:
    """Write the proposal, say what ``fit`` makes of it, and return how many faults are left."""
    if proposal is None:
        raise DataError(
            f"{path} is not written: no mask is refused for its values, or there is no telling "
            "what they mean; the findings above say what to do"
        )
    write_proposal(
        examined, proposal, path, shown=lambda cases, n: shown(cases, n, "converting masks")
    )
    root = examined.surveyed.root
    left = survey(root, read_dataset_spec(root, path)).findings
    if left:
        print(f"\n{path} is written. What it does not mend, {len(left)} fault(s):")
        for group in grouped(left):
            print("\n".join(f"  {line}" for line in group.lines(root)))
        return len(left)
    option = "" if path.resolve() == (root / SPEC_FILE).resolve() else f" --data.spec {path}"
    print(f"\n{path} is written: with it fit takes the data set. Name the classes in it, then:")
    print(f"  python -m training fit --data.root {root}{option}")
    return 0
