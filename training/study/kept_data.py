"""What a study keeps of its data sets, so that it can go on elsewhere, and on the same images only.

<study>/splits/<data set>.json   which images train, validate and test
<study>/specs/<data set>.yaml    what ``data.spec`` said, where the study names such a file
<study>/files/<data set>.json    a digest of each image, each mask and the table

Files are told by their bytes, which takes no decoding: 0.4 s for 664 files of nuclei, far less than
the check that goes before. A picture that was stored again in another format is another file.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from training.data.fingerprint import HASH_DIGITS
from training.data.folder import FolderDataset
from training.data.spec import SPEC_FILE, DatasetSpec, read_dataset_spec
from training.data.split import Split
from training.fit.atomic import replace_file
from training.study.config import StudyError

LISTED = 3


def split_file(root: Path, dataset: str) -> Path:
    """Return where a study keeps the split of a data set."""
    return root / "splits" / f"{dataset}.json"


def spec_file(root: Path, dataset: str) -> Path:
    """Return where a study keeps what ``data.spec`` said of a data set."""
    return root / "specs" / f"{dataset}.yaml"


def files_file(root: Path, dataset: str) -> Path:
    """Return where a study keeps the digests of a data set's files."""
    return root / "files" / f"{dataset}.json"


def spec_content(path: Path) -> dict[str, Any]:
    """Return what a ``data.spec`` says, without what goes without saying.

    Raises:
        DataError: it is missing or no such file.
    """
    return _plain(read_dataset_spec(path.parent, path))


def keep(
    root: Path, name: str, *, dataset: FolderDataset, split: Split, spec: dict[str, Any] | None
) -> None:
    """Write what is not there yet of a data set.

    Args:
        root: the study's folder.
        name: of the data set.
        dataset: as it was opened.
        split: of it.
        spec: content of ``data.spec``; None: the study names none.
    """
    if not split_file(root, name).is_file():
        # As ``write_split`` does, but whole or not at all: half a split, as a full disk leaves it,
        # could not be gone on with.
        _write(split_file(root, name), json.dumps(asdict(split), indent=1) + "\n")
    if spec is not None:
        _write(spec_file(root, name), yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    if not files_file(root, name).is_file():
        _write(files_file(root, name), json.dumps(digests(dataset), indent=1) + "\n")


def refuse_changed(root: Path, name: str, dataset: FolderDataset) -> None:
    """Refuse a data set that is not the one that the study in ``root`` began with.

    Raises:
        StudyError: files were added, removed or changed.
    """
    path = files_file(root, name)
    if not path.is_file():
        return
    try:
        before: Mapping[str, str] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise StudyError(f"{path} is damaged; put it back, or give another --out") from error
    now = digests(dataset)
    changes = {
        "added": now.keys() - before.keys(),
        "removed": before.keys() - now.keys(),
        "changed": {file for file in now.keys() & before.keys() if now[file] != before[file]},
    }
    if not any(changes.values()):
        return
    counts = ", ".join(f"{len(files)} {how}" for how, files in changes.items() if files)
    files = sorted(set().union(*changes.values()))
    named = ", ".join(files[:LISTED]) + (" …" if len(files) > LISTED else "")
    raise StudyError(
        f"data set {name} in {dataset.root} is not as it was when the study in {root} began: of "
        f"{len(before)} files {counts} ({named}). Put them back to go on, or give another --out "
        "for a study of the files as they are"
    )


def digests(dataset: FolderDataset) -> dict[str, str]:
    """Return a digest of each file by its path from the data set's root.

    dataset.yaml stands with what it says to this data set, wherever it lies.
    """
    files = [file for case in dataset.cases for file in (case.image, *case.mask_files)]
    if dataset.spec.table is not None:
        files.append(dataset.root / dataset.spec.table)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(_digest, files))
    names = [Path(os.path.relpath(file, dataset.root)).as_posix() for file in files]
    said = json.dumps(_plain(dataset.spec), sort_keys=True).encode()
    of_spec = {SPEC_FILE: hashlib.sha256(said).hexdigest()[:HASH_DIGITS]}
    return of_spec | dict(zip(names, found, strict=True))


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:HASH_DIGITS]


def _plain(spec: DatasetSpec) -> dict[str, Any]:
    # Through JSON, as it will be read again from a cell: keys of mask_map become texts.
    content: dict[str, Any] = json.loads(spec.model_dump_json(exclude_defaults=True))
    return content


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: file.write(text.encode()))
