"""A data set examined: the faults that ``fit`` refuses, and what else may spoil a training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contract.errors import DataError, ImageError
from training.data.check import shown
from training.data.config import DataConfig
from training.data.findings import Finding, FindingGroup, Kind, Severity, grouped, short
from training.data.folder import FolderDataset, dataset_of
from training.data.profile import DataProfile, profile
from training.data.spec import DatasetSpec, read_dataset_spec
from training.data.split import make_split
from training.data.survey import Survey, survey
from training.doctor.coding import Coding, coding_of
from training.doctor.coverage import coverage
from training.doctor.duplicates import Pair, find_pairs_alike
from training.doctor.parts import part_findings
from training.doctor.surprises import surprises
from training.score.rulers import rulers_for

# Faults in how a mask codes its classes; for these a meaning is proposed.
CODING_FAULTS = frozenset({"mask-values", "colour-mask", "jpeg-mask", "mask-type"})
WRITE = "--write-spec FILE writes a dataset.yaml that says so"
CONVERT = "--write-spec FILE writes them as class indices, with a dataset.yaml that names them"


@dataclass(frozen=True)
class Examination:
    """What was found in a data set.

    Attributes:
        surveyed: the folder as ``fit`` sees it.
        given: dataset.yaml as it stands, without what was inferred.
        findings: all of them.
        coding: how the refused masks code their classes; None where none is refused for that.
        refused_masks: files whose coding ``fit`` refuses.
        pairs: pictures that are alike.
        profile: None where there are faults.
    """

    surveyed: Survey
    given: DatasetSpec
    findings: tuple[Finding, ...]
    coding: Coding | None
    refused_masks: frozenset[Path]
    pairs: tuple[Pair, ...]
    profile: DataProfile | None

    @property
    def groups(self) -> list[FindingGroup]:
        """Findings that are the same but for their file; faults first."""
        return grouped(self.findings)

    def count(self, severity: Severity) -> int:
        """Return how many findings are this severe."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    root: Path,
    spec_path: Path | None = None,
    split_path: Path | None = None,
    *,
    progress: bool = True,
) -> Examination:
    """Examine the data set in ``root``.

    Args:
        root: folder with ``images/`` and ``masks/``.
        spec_path: dataset.yaml, where it is not in ``root``.
        split_path: a split file to examine too.
        progress: show how far it is.

    Raises:
        DataError: no such folder, or a dataset.yaml that does not validate.
    """
    given = read_dataset_spec(root, spec_path)
    surveyed = survey(root, given, progress=progress)
    refused = frozenset(f.where for f in surveyed.findings if f.kind in CODING_FAULTS)
    coding = _coding(sorted(refused))
    faults = [_told_closer(finding, coding) for finding in surveyed.findings]
    faulty = {finding.where for finding in faults}
    unnamed = any(finding.kind in CODING_FAULTS for finding in surveyed.findings)

    def with_progress(
        items: Iterable[tuple[int, int, str]], total: int
    ) -> Iterable[tuple[int, int, str]]:
        return shown(items, total, "comparing images") if progress else items

    pairs = find_pairs_alike(
        surveyed.cases,
        [item.glance for item in surveyed.seen],
        surveyed.spec,
        masks_readable=[
            not unnamed and not faulty & set(case.mask_files) for case in surveyed.cases
        ],
        shown=with_progress,
    )
    findings = [*faults, *surprises(surveyed), *coverage(surveyed), *_alike(surveyed, pairs)]
    if split_path is not None:
        findings += part_findings(surveyed, split_path, pairs)
    seen_whole = None
    if not faults:
        dataset = dataset_of(surveyed)
        stems = [case.stem for case in surveyed.cases]
        seen_whole = profile(dataset, stems)
        findings += _as_a_whole(dataset, stems, splits=split_path is None)
    return Examination(surveyed, given, tuple(findings), coding, refused, tuple(pairs), seen_whole)


def _as_a_whole(dataset: FolderDataset, stems: Sequence[str], *, splits: bool) -> Iterator[Finding]:
    """Yield what only shows when all files are good, and else after hours of training."""
    if splits:
        try:
            make_split(dataset, DataConfig(root=str(dataset.root)))
        except DataError as error:
            yield Finding(
                dataset.root,
                "too-few",
                "too few to train, validate and hold out",
                "as it says, or give the split that you want by --data.split_file",
                str(error),
            )
    try:
        rulers_for(dataset, stems)
    except DataError as error:
        yield Finding(
            dataset.root / str(dataset.spec.table),
            "spacing",
            "the size of a pixel is not told, so export and report cannot score",
            "fill it in, or take spacing_columns out of dataset.yaml",
            str(error),
            "warning",
        )


def _coding(refused: Sequence[Path]) -> Coding | None:
    if not refused:
        return None
    try:
        return coding_of(refused)
    except ImageError:  # such as a truncated JPEG, which is told as a fault of its own
        return None


def _told_closer(finding: Finding, coding: Coding | None) -> Finding:
    """Say what a refused mask probably is, where its pixels tell."""
    if coding is None or finding.kind not in CODING_FAULTS:
        return finding
    levels = ", ".join(_level_text(level) for level in coding.levels[:8])
    if coding.kind == "picture":
        fix = "put masks there; a mask has few values, each in whole areas"
        return replace(finding, kind="not-a-mask", found="a picture, not a mask", remedy=fix)
    if coding.kind == "instances":
        if finding.kind == "mask-values":
            found = "a number for each object instead of one for each class"
            finding = replace(finding, kind="instance-mask", found=found, detail="")
        return replace(finding, remedy=f"every object becomes class 1: {CONVERT}")
    if finding.kind != "mask-values":
        return replace(finding, remedy=f"the classes are probably {levels}: {CONVERT}")
    if coding.kind == "blended":
        found = "blended edges: the mask was smoothed, resized or compressed"
        fix = f"the classes are probably {levels}, the rest are edges: {CONVERT}"
        return replace(finding, kind="blended-mask", found=found, remedy=fix, detail="")
    if coding.levels == ((0,), (255,)):
        fix = f"add mask_map: {{255: 1}} to dataset.yaml, or {WRITE}. {_shares(coding)}"
        return replace(finding, kind="mask-0-255", remedy=fix)
    return replace(finding, remedy=f"{finding.remedy}; {WRITE}. {_shares(coding)}")


def _shares(coding: Coding) -> str:
    held = ", ".join(
        f"{_level_text(level)} fills {share:.0%}"
        for level, share in zip(coding.levels[:8], coding.shares, strict=False)
    )
    return f"{held}: see that the background is not the wrong one"


def _level_text(level: tuple[int, ...]) -> str:
    return str(level[0]) if len(level) == 1 else f"rgb{level}"


def _alike(surveyed: Survey, pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        first, second = surveyed.cases[pair.first], surveyed.cases[pair.second]
        name = short(first.image, surveyed.root)
        turn = f", {pair.turn}" if pair.turn else ""
        dice = pair.mask_dice
        masks = "" if dice is None else f"; Dice of the masks {dice:.3f}"
        kind: Kind
        if pair.equal:
            kind, found = "duplicate", "the same pixels as another image"
            detail = f"as {name}"
        else:
            kind, found = "near-duplicate", "nearly the same as another image"
            detail = f"correlation {pair.correlation:.2f} with {name}{turn}"
        yield Finding(
            second.image,
            kind,
            found,
            "take one out, or give both one group (table and group_column in dataset.yaml), so "
            "that no split tears them apart",
            detail + masks,
            "warning",
            (first.image,),
        )
        if dice is not None and dice < 1 and pair.equal:
            yield Finding(
                second.mask_files[0],
                "annotation-noise",
                "the same image with another mask",
                "keep the better mask; no net can score higher than annotators agree",
                f"Dice {dice:.3f} with {short(first.mask_files[0], surveyed.root)}",
                "warning",
                first.mask_files[:1],
            )
