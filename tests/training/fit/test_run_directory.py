import json
from pathlib import Path

import pytest

from training.fit.run_directory import (
    RunDirectory,
    RunDirectoryError,
    create_run_directory,
    write_environment,
)


def test_the_next_free_number_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [create_run_directory(None, name="cells-none").root.name for _ in range(3)]
    assert names == ["cells-none-1", "cells-none-2", "cells-none-3"]


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty") as caught:
        create_run_directory(tmp_path, name="x")
    assert "--resume" in str(caught.value)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert create_run_directory(tmp_path, name="x").checkpoints.is_dir()


def test_the_last_checkpoint_stands_in_for_a_missing_best(tmp_path: Path) -> None:
    run = create_run_directory(tmp_path / "run", name="x")
    with pytest.raises(RunDirectoryError, match="holds no checkpoints"):
        run.checkpoint("best")
    (run.checkpoints / "last.ckpt").write_bytes(b"x")
    assert run.checkpoint("best").name == "last.ckpt"
    (run.checkpoints / "best.ckpt").write_bytes(b"x")
    assert run.checkpoint("best").name == "best.ckpt"


def test_the_environment_names_versions_and_seed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_environment(run, seed=7, extra={"images": 3})
    facts = json.loads(run.environment.read_text())
    assert facts["seed"] == 7
    assert facts["images"] == 3
    assert facts["packages"]["torch"][0].isdigit()
