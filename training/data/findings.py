"""What is wrong or odd in a data set, gathered so that one run tells it all.

``fit`` refuses faults; ``doctor`` tells faults, warnings and notes. Both take them from the same
checks and print them with the same words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract.errors import DataError

Severity = Literal["fault", "warning", "note"]
# docs/guide/doctor.md explains each.
Kind = Literal[
    # what is there
    "missing-folder", "empty-folder", "no-pair", "no-mask", "no-image", "stem-twice",
    "no-class-mask", "unknown-class", "table", "two-groups", "no-group",
    "too-few", "spacing",
    # images
    "unreadable-image", "channels", "blank-image", "see-through", "varying-alpha", "mixed-depth",
    "8-in-16", "grey-among-colour",
    # masks
    "unreadable-mask", "size-mismatch", "turned-mask", "mask-values", "mask-0-255", "blended-mask",
    "instance-mask", "not-a-mask", "colour-mask", "jpeg-mask", "mask-type", "all-background",
    "empty-mask", "full-mask", "all-ignored", "absent-class",
    # pictures that are alike
    "duplicate", "near-duplicate", "annotation-noise",
    # a split file
    "split-file", "torn-group", "part-lacks-class", "duplicate-across-parts", "unused",
]  # fmt: skip
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")

LISTED = 20
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing found in one file.

    Attributes:
        where: the file (or folder).
        kind: a word for this kind of finding.
        found: what is wrong, in the same words for every file that has it.
        remedy: what to do about it.
        detail: what is this file's own: numbers, values, the decoder's message.
        severity: a ``fault`` stops ``fit``, a ``warning`` may spoil it, a ``note`` is to be known.
        others: files that belong to it, such as the copies of ``where``.
    """

    where: Path
    kind: Kind
    found: str
    remedy: str
    detail: str = ""
    severity: Severity = "fault"
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FindingGroup:
    """The same finding in one or more files; the remedy is the first one's."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding in the first file."""
        return self.findings[0]

    def lines(self, root: Path, *, named: int = NAMED) -> list[str]:
        """Return what to print: what was found, the first ``named`` files, the remedy."""
        first, count = self.first, len(self.findings)
        details = {finding.detail for finding in self.findings}
        shared = f": {first.detail}" if len(details) == 1 and first.detail else ""
        if count == 1:
            return [f"{short(first.where, root)}: {first.found}{shared}", f"  -> {first.remedy}"]
        shown = self.findings[:named]
        rest = f"… and {count - named} more" if count > named else ""
        lines = [f"{count} files: {first.found}{shared}"]
        if len({finding.where for finding in self.findings}) == 1:
            lines = [f"{short(first.where, root)}: {first.found}, {count} times"]
            lines += [f"    {finding.detail}" for finding in shown]
            lines += [f"    {rest}"] if rest else []
        elif len(details) == 1:
            names = ", ".join(short(finding.where, root) for finding in shown)
            lines.append(f"    {names} {rest}".rstrip())
        else:
            for finding in shown:
                tail = f": {finding.detail}" if finding.detail else ""
                lines.append(f"    {short(finding.where, root)}{tail}")
            lines += [f"    {rest}"] if rest else []
        return [*lines, f"  -> {first.remedy}"]


def grouped(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Gather what is the same but for its file: faults first, else in the order of discovery."""
    groups: dict[tuple[Severity, str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.severity, finding.kind, finding.found)
        groups.setdefault(key, []).append(finding)
    order = sorted(groups, key=lambda key: SEVERITIES.index(key[0]))
    return [FindingGroup(tuple(groups[key])) for key in order]


def refuse(root: Path, findings: Sequence[Finding]) -> None:
    """Raise one DataError that tells all faults, the same fault over many files once.

    Raises:
        DataError: where ``findings`` holds a fault.
    """
    groups = [group for group in grouped(findings) if group.first.severity == "fault"]
    if not groups:
        return
    count = sum(len(group.findings) for group in groups)
    kinds = f", of {len(groups)} kind(s)" if len(groups) < count else ""
    lines = [f"{root}: {count} fault(s) in the data set{kinds}"]
    for group in groups[:LISTED]:
        lines += [f"  {line}" for line in group.lines(root)]
    if len(groups) > LISTED:
        lines.append(f"  … and {len(groups) - LISTED} more kinds")
    lines.append(f"  python -m training doctor {root} looks closer and shows pictures")
    raise DataError("\n".join(lines))


def short(path: Path, root: Path) -> str:
    """Return ``path`` from ``root`` where it lies within."""
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else str(path)
