"""Which image belongs to which mask, and to which group."""

import csv
from collections.abc import Mapping
from pathlib import Path

from training.data.case import Case
from training.data.findings import Finding
from training.data.spec import DatasetSpec
from training.data.stems import natural_key

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})


def find_pairs(root: Path, spec: DatasetSpec) -> tuple[list[Case], list[Finding]]:
    """Match images and masks by stem, in natural order, and look up their groups.

    Only cases that have both come back; every stem without a partner is a finding.
    """
    images_folder, masks_folder = root / spec.images, root / spec.masks
    findings = [
        Finding(
            folder,
            "missing-folder",
            f"no folder of {key}" + (f"; there is {_listing(root)}" if root.is_dir() else ""),
            f"put the {key} there, or name their folder in dataset.yaml by {key}: FOLDER",
        )
        for key, folder in (("images", images_folder), ("masks", masks_folder))
        if not folder.is_dir()
    ]
    if findings:
        return [], findings
    images = _by_stem(images_folder, "images", findings)
    masks: Mapping[str, Path | dict[str, Path]]
    if spec.task == "multilabel":
        masks = _class_files(masks_folder, spec, findings)
    else:
        masks = _by_stem(masks_folder, "masks", findings)
    mask_pattern = "{}/<class>.png" if spec.task == "multilabel" else "{}.png"
    for stem in sorted(images.keys() - masks.keys(), key=natural_key):
        wanted = f"{spec.masks}/{mask_pattern.format(stem)}"
        remedy = f"add a mask of the same stem (here: add {wanted}), or take the image out"
        findings.append(Finding(images[stem], "no-mask", "an image without a mask", remedy))
    for stem in sorted(masks.keys() - images.keys(), key=natural_key):
        remedy = f"add an image with its stem (here {stem!r}) to {spec.images}/, or take it out"
        place = masks[stem]
        where = place if isinstance(place, Path) else masks_folder / stem
        findings.append(Finding(where, "no-image", "a mask without an image", remedy))
    stems = sorted(images.keys() & masks.keys(), key=natural_key)
    if not stems:
        found = f"no pair: {len(images)} image(s) and {len(masks)} mask(s) share no stem"
        remedy = (
            "give an image and its mask the same name up to the suffix, such as "
            f"{spec.images}/a.jpg and {spec.masks}/{mask_pattern.format('a')}"
        )
        findings.insert(0, Finding(root, "no-pair", found, remedy))
    groups = _groups(root, spec, stems, findings)
    return [Case(stem, images[stem], masks[stem], groups.get(stem)) for stem in stems], findings


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "nothing in it"


def _files(folder: Path) -> list[Path]:
    """Image files of a folder; hidden files and files of other kinds are not ours to judge."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if (entry.is_file() or _leads_nowhere(entry))
        and not entry.name.startswith(".")
        and entry.suffix.lower() in IMAGE_SUFFIXES
    )


def _leads_nowhere(entry: Path) -> bool:
    """Whether it is a link to nothing: an image that was not fetched, not one that is not there."""
    return entry.is_symlink() and not entry.exists()


def _by_stem(folder: Path, kind: str, findings: list[Finding]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _files(folder):
        if path.stem in files:
            other = files[path.stem].name
            detail = f"the stem {path.stem!r} stands twice, as {other} and {path.name}"
            fix = "keep one of the two"
            findings.append(Finding(path, "stem-twice", "not the only one", fix, detail))
        else:
            files[path.stem] = path
    if not files:
        suffixes = sorted({entry.suffix or "none" for entry in folder.iterdir()})
        found = f"no {kind} in it (suffixes found: {', '.join(suffixes) or 'the folder is empty'})"
        remedy = f"put {kind} there as {', '.join(sorted(IMAGE_SUFFIXES))}"
        findings.append(Finding(folder, "empty-folder", found, remedy))
    return files


def _class_files(
    folder: Path, spec: DatasetSpec, findings: list[Finding]
) -> dict[str, dict[str, Path]]:
    """Multilabel: ``<stem>/<class>.png``; without named classes all that occur are wanted."""
    found = {
        entry.name: _by_stem(entry, "class masks", findings)
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    names = [entry.name for entry in spec.classes] or sorted({n for f in found.values() for n in f})
    for stem, files in found.items():
        for name in names:
            if name not in files:
                remedy = f"add {name}.png; if the image has no {name}, make it all 0"
                found_here = f"no mask of class {name!r}"
                findings.append(Finding(folder / stem, "no-class-mask", found_here, remedy))
        for name in sorted(files.keys() - set(names)):
            remedy = f"known classes: {', '.join(names)}; add it to classes or rename the file"
            found_here = f"unknown class {name!r}"
            findings.append(Finding(files[name], "unknown-class", found_here, remedy))
    return {
        stem: {name: files[name] for name in names}
        for stem, files in found.items()
        if files.keys() >= set(names) and names
    }


def _groups(
    root: Path, spec: DatasetSpec, stems: list[str], findings: list[Finding]
) -> dict[str, str]:
    if spec.table is None or spec.group_column is None:
        return {}
    path = root / spec.table
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "name a CSV file (UTF-8, with a header line) by table: FILE in dataset.yaml"
        found = f"the table cannot be read ({error})"
        findings.append(Finding(path, "table", found, remedy))
        return {}
    for key in ("stem_column", "group_column"):
        if getattr(spec, key) not in columns:
            found = f"no column {getattr(spec, key)!r}; its columns are {', '.join(columns)}"
            remedy = f"set {key} in dataset.yaml to one of them"
            findings.append(Finding(path, "table", found, remedy))
            return {}
    groups: dict[str, str] = {}
    for row in rows:
        stem, group = (row[spec.stem_column] or "").strip(), (row[spec.group_column] or "").strip()
        # Tables often name the file where the stem is meant.
        stem = Path(stem).stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem
        if groups.setdefault(stem, group) != group:
            detail = f"{stem!r} is in group {groups[stem]!r} and in group {group!r}"
            found = "a stem in two groups"
            findings.append(Finding(path, "two-groups", found, "give it one group", detail))
    for stem in stems:
        if not groups.get(stem):
            problem = "no row for" if stem not in groups else f"no {spec.group_column} for"
            remedy = "add it to the table; without it, it could leak from train to test"
            detail = f"{problem} {stem!r}"
            findings.append(Finding(path, "no-group", "an image without a group", remedy, detail))
    return groups
