"""A full disk is told in one line and leaves nothing that could not be gone on with."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.__main__ import main
from training.study.run_cell import run_cell, write_failure

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which is Linux's")


def fill(path: Path) -> None:
    """Let the next write of ``path`` find no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.part").symlink_to(FULL)


@pytest.mark.parametrize(
    "file", ["splits/ph.json", "files/ph.json", "study.yaml", "cells/ph/all/seed-0/cell.yaml"]
)
def test_no_room_for_a_file_is_one_line(
    file: str, study_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = study_of(learning_rates=[0.01]).model_dump(mode="json")
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(settings))
    fill(tmp_path / "out" / file)

    code = main(["study", str(tmp_path / "given.yaml"), "--out", str(tmp_path / "out")])

    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert said.startswith(f"training study: {tmp_path / 'out' / file}: No space left on device;")
    assert not (tmp_path / "out" / file).exists()


def test_a_cell_without_room_for_its_outcome_can_be_finished(
    ran_study: Any, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(ran_study.root, root)
    folder = ran_study.conducted.reported[0].folder(root)
    (folder / "outcome.json").unlink()
    fill(folder / "outcome.json")

    run_cell(folder)
    assert "No space left on device" in (folder / "failed.txt").read_text().splitlines()[-1]
    fill(folder / "failed.txt")
    with pytest.raises(OSError, match="No space left on device") as error:
        write_failure(folder, "why")
    assert error.value.filename == str(folder / "failed.txt")

    run_cell(folder)
    assert (folder / "outcome.json").is_file()
