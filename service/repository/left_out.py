"""What lies in the models' folder and is no model, told so that nobody looks for it in vain."""

import re
from collections.abc import Iterator
from pathlib import Path

from contract.repository import MODEL_FILE, list_models, list_versions
from contract.spec import NAME_PATTERN
from service.repository.policy import POLICY_FILE

_NAME = re.compile(NAME_PATTERN)


def left_out(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each folder, link or model file that is passed over, relative to ``root``, and why.

    Other files and hidden folders are nobody's models; they are not told.
    """
    if (root / "models.yml").exists():
        yield Path("models.yml"), f"the file of policies is called {POLICY_FILE}; rename it"
    names = list_models(root)
    for path in _candidates(root):
        if path.name not in names:
            yield path.relative_to(root), _why_no_model(path)
            continue
        versions = {str(number) for number in list_versions(root, path.name)}
        for version in _candidates(path):
            if version.name not in versions:
                yield version.relative_to(root), _why_no_version(version)


def _candidates(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and (path.is_dir() or path.is_symlink() or path.suffix == ".onnx")
    )


def _why_no_model(path: Path) -> str:
    if not path.is_dir():
        return _why_no_folder(path)
    if not _NAME.fullmatch(path.name):
        return f"a model's name must match {NAME_PATTERN}; rename the folder"
    found = _candidates(path)
    if not found:
        return f"there is nothing in it; put <version>/{MODEL_FILE} there"
    return "; ".join(f"{version.name!r}: {_why_no_version(version)}" for version in found)


def _why_no_version(path: Path) -> str:
    if not path.is_dir():
        return _why_no_folder(path)
    model = path / MODEL_FILE
    if model.is_symlink() and not model.exists():
        return f"its {MODEL_FILE} is a link to nothing"
    if not model.is_file():
        return f"there is no {MODEL_FILE} in it"
    return "versions are folders called 1, 2, 3, …; rename it"


def _why_no_folder(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "it is a link to nothing"
    return f"it is no folder; models lie as <name>/<version>/{MODEL_FILE}"
