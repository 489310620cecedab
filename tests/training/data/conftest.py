"""Small data sets on disk, made by the test that needs them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.folder import FolderDataset, open_folder
from training.data.phantoms import write_phantoms


def write_array(path: Path, pixels: np.ndarray) -> None:
    """Write ``pixels`` in the format of the suffix; colour arrays are RGB(A)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    written, encoded = cv2.imencode(path.suffix, pixels)
    if not written:
        raise OSError(f"could not encode {path}")
    path.write_bytes(encoded.tobytes())


@pytest.fixture
def write() -> Callable[[Path, np.ndarray], None]:
    return write_array


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of data sets: arrays by file name, and the text of dataset.yaml."""

    def make(
        images: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray],
        yaml: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Path:
        root = tmp_path / "set"
        for folder, arrays in (("images", images), ("masks", masks)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, pixels in arrays.items():
                write_array(root / folder / name, pixels)
        for name, text in ({"dataset.yaml": yaml} if yaml is not None else {}).items():
            (root / name).write_text(text, encoding="utf-8")
        for name, text in (files or {}).items():
            (root / name).write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> FolderDataset:
    """Twelve pictures of 72 x 96 px with three classes."""
    root = tmp_path_factory.mktemp("phantoms")
    write_phantoms(root, count=12, size_hw=(72, 96), seed=5, classes=3)
    return open_folder(root, progress=False)
