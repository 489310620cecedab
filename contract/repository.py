"""Read a model repository: ``<root>/<name>/<version>/model.onnx``, versions counted from 1."""

import re
from pathlib import Path

from contract.errors import ModelNotFound
from contract.spec import NAME_PATTERN

MODEL_FILE = "model.onnx"

_NAME = re.compile(NAME_PATTERN)
# No leading zero, so that each version has one spelling.
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def list_models(root: Path) -> list[str]:
    """Return the names that have at least one version, sorted; an absent root has none."""
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if list_versions(root, folder.name))


def list_versions(root: Path, name: str) -> list[int]:
    """Return the versions that hold a model file, ascending; an unknown name has none."""
    return [
        version
        for version in _numbered_folders(root, name)
        if (root / name / str(version) / MODEL_FILE).is_file()
    ]


def latest(root: Path, name: str) -> int:
    """Return the highest version.

    Raises:
        ModelNotFound: there is none.
    """
    versions = list_versions(root, name)
    if not versions:
        raise ModelNotFound(
            f"there is no model {name!r} in {root}; there are: "
            f"{', '.join(list_models(root)) or 'none'}"
        )
    return versions[-1]


def find_model(root: Path, name: str, version: int | None = None) -> Path:
    """Return the path of a model file.

    Args:
        root: the repository.
        name: the model's name.
        version: None means the latest.

    Raises:
        ModelNotFound: no such name or version; the message lists what there is.
    """
    newest = latest(root, name)
    versions = list_versions(root, name)
    if version is not None and version not in versions:
        raise ModelNotFound(
            f"model {name!r} has no version {version}; there are: "
            f"{', '.join(str(number) for number in versions)}"
        )
    return root / name / str(newest if version is None else version) / MODEL_FILE


def next_version(root: Path, name: str) -> int:
    """Return the number for a new version: one above every folder there, even an unfinished one.

    Raises:
        ModelNotFound: the name cannot be a model's name.
    """
    if not _NAME.fullmatch(name):
        raise ModelNotFound(
            f"{name!r} cannot be a model's name; it must match {NAME_PATTERN}, e.g. 'nuclei'"
        )
    return max(_numbered_folders(root, name), default=0) + 1


def _numbered_folders(root: Path, name: str) -> list[int]:
    # The name may come from a URL: only a plain folder name may reach the file system.
    if not _NAME.fullmatch(name) or not (root / name).is_dir():
        return []
    folders = (root / name).iterdir()
    return sorted(
        int(folder.name)
        for folder in folders
        if _VERSION.fullmatch(folder.name) and folder.is_dir()
    )
