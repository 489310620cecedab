"""Clean phantoms, and copies of them that a test breaks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.phantoms import write_phantoms
from training.doctor.examination import Examination, examine


@pytest.fixture(scope="session")
def clean_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of 72 x 96 px, two classes, 8 bits."""
    root = tmp_path_factory.mktemp("clean") / "set"
    write_phantoms(root, count=10, size_hw=(72, 96), seed=3, classes=2)
    return root


@pytest.fixture
def broken(clean_set: Path, tmp_path: Path) -> Path:
    """A copy of the clean set, without its dataset.yaml, for the test to break."""
    root = tmp_path / "set"
    shutil.copytree(clean_set, root)
    (root / "dataset.yaml").unlink()
    return root


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    """Six pictures of 72 x 96 px with background, cell and nucleus, without dataset.yaml."""
    root = tmp_path / "three"
    write_phantoms(root, count=6, size_hw=(72, 96), seed=4, classes=3)
    (root / "dataset.yaml").unlink()
    return root


@pytest.fixture
def found() -> Callable[..., list[tuple[str, str, str]]]:
    """Return (severity, kind, file) of everything that is found, files from the set's root."""

    def look(root: Path, **options: Path) -> list[tuple[str, str, str]]:
        examined: Examination = examine(root, progress=False, **options)
        return [
            (f.severity, f.kind, f.where.relative_to(root).as_posix()) for f in examined.findings
        ]

    return look


@pytest.fixture
def read() -> Callable[[Path], np.ndarray]:
    """Return a file's pixels as OpenCV gives them (colours in BGR order)."""
    return lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def save() -> Callable[..., None]:
    """Return a writer of pixels (colours in BGR order) in the format of the suffix."""

    def write(path: Path, pixels: np.ndarray, *settings: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels, settings)

    return write


@pytest.fixture
def write_split(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of split files."""

    def write(train: list[str], val: list[str], test: list[str]) -> Path:
        path = tmp_path / "split.json"
        parts = {"train": train, "val": val, "test": test}
        path.write_text(json.dumps({**parts, "kind": "random", "seed": 0}))
        return path

    return write
