"""An examination as plain values, for JSON and for the page."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from training.data.findings import SEVERITIES, short
from training.doctor.examination import Examination

FORMAT = 1


def record_of(examined: Examination) -> dict[str, Any]:
    """Return everything that was found; file names are from the data set's root."""
    root = examined.surveyed.root
    return {
        "format": FORMAT,
        "data_set": root.resolve().name,
        "clean": examined.count("fault") == 0,
        **{f"{severity}s": examined.count(severity) for severity in SEVERITIES},
        "findings": [
            {
                "severity": group.first.severity,
                "kind": group.first.kind,
                "found": group.first.found,
                "remedy": group.first.remedy,
                "files": [
                    {
                        "file": short(finding.where, root),
                        "detail": finding.detail,
                        "others": [short(path, root) for path in finding.others],
                    }
                    for finding in group.findings
                ],
            }
            for group in examined.groups
        ],
        "images": facts_of(examined),
        "coding": None if examined.coding is None else asdict(examined.coding),
        "profile": None if examined.profile is None else asdict(examined.profile),
    }


def facts_of(examined: Examination) -> dict[str, Any]:
    """Return what is known of the images even where the set has faults."""
    seen = [item for item in examined.surveyed.seen if item.size_hw and item.glance]
    glances = [item.glance for item in seen if item.glance]
    sizes = [item.size_hw for item in seen if item.size_hw]
    if not sizes:
        return {"pairs": len(examined.surveyed.cases), "read": 0}
    heights, widths = zip(*sizes, strict=True)
    return {
        "pairs": len(examined.surveyed.cases),
        "read": len(seen),
        "height_px": [min(heights), median(heights), max(heights)],
        "width_px": [min(widths), median(widths), max(widths)],
        "sizes": len(set(sizes)),
        "channels": sorted({glance.channels for glance in glances}),
        "stored_channels": sorted({glance.stored_channels for glance in glances}),
        "bits": sorted({glance.bits for glance in glances}),
        "intensity": [min(g.low for g in glances), max(g.high for g in glances)],
    }


def write_record(examined: Examination, path: Path) -> None:
    """Write the record as JSON."""
    text = json.dumps(record_of(examined), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
