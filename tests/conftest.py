"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Folder that holds pyproject.toml."""
    return REPOSITORY_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, one folder per data set; tests that need it skip without it."""
    folder = Path(os.environ.get("LONGSKIP_SHARED", REPOSITORY_ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("no real images here: LONGSKIP_SHARED does not name a folder with data/")
    return folder
