"""The same cells on every engine: what counts is the folder that they leave behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from training.study.cells import read_outcome
from training.study.config import StudyError
from training.study.engines import ENGINES, run_locally


def copied_cell(ran_study: Any, root: Path) -> Path:
    """Return a new folder with the cell.yaml of one that was run already."""
    cell = ran_study.conducted.reported[0]
    folder = cell.folder(root)
    folder.mkdir(parents=True)
    shutil.copy(cell.folder(ran_study.root) / "cell.yaml", folder)
    shutil.copytree(ran_study.root / "splits", root / "splits")
    return folder


# Ray starts its processes with sockets that it leaves to the interpreter's end.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("ray", {"num_cpus": 1, "_node_ip_address": "127.0.0.1"}),
        ("slurm", {"cluster": "local", "timeout_min": 5}),
    ],
)
def test_an_engine_runs_the_cell_as_a_local_process_does(
    engine: str, options: dict[str, Any], ran_study: Any, tmp_path: Path
) -> None:
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}[engine])
    folder = copied_cell(ran_study, tmp_path)

    over = list(ENGINES[engine]([folder], jobs=1, options=options))

    assert over == [folder], list(folder.iterdir())
    found = read_outcome(folder)
    first = read_outcome(ran_study.conducted.reported[0].folder(ran_study.root))
    assert found is not None, (folder / "failed.txt").read_text()
    assert first is not None
    assert found.dice == pytest.approx(first.dice, abs=0.02)
    assert found.parameters == first.parameters


def test_options_that_no_engine_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="local engine has no options, got address"):
        list(run_locally([tmp_path], jobs=1, options={"address": "auto"}))


def test_slurm_that_is_not_there_says_how_to_try_the_jobs(tmp_path: Path) -> None:
    if shutil.which("srun"):
        pytest.skip("SLURM is installed here")
    folder = tmp_path / "cells" / "a" / "b" / "seed-0"
    with pytest.raises(StudyError, match="cluster=local"):
        list(ENGINES["slurm"]([folder], jobs=1, options={}))
