"""Faults of a data set, gathered so that one run tells them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.errors import DataError

LISTED = 20


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, what was found there and what to do about it."""

    where: Path
    found: str
    remedy: str


def refuse(root: Path, findings: Sequence[Finding]) -> None:
    """Raise one DataError that lists the first ``LISTED`` findings and counts the rest.

    Raises:
        DataError: unless ``findings`` is empty.
    """
    if not findings:
        return
    lines = [f"{root}: {len(findings)} fault(s) in the data set"]
    for finding in findings[:LISTED]:
        lines.append(f"  {_short(finding.where, root)}: {finding.found}")
        lines.append(f"    -> {finding.remedy}")
    if len(findings) > LISTED:
        lines.append(f"  … and {len(findings) - LISTED} more")
    raise DataError("\n".join(lines))


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else str(path)
