"""One small data set and one small run that the slow tests of training share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.fit.folds import FoldsDirectory, read_folds

FIT = (
    "--net.widths=[6,10,14]",
    "--data.patch=[64,64]",
    "--data.batch_size=4",
    "--data.workers=0",
    "--trainer.max_epochs=3",
    "--optimiser.lr=0.01",
    # In bfloat16 a barely trained net validates up to 0.01 Dice away from its file.
    "--trainer.precision=32-true",
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Train as a process of one thread does: another number of threads rounds in another way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 20 small phantoms."""
    out = tmp_path_factory.mktemp("phantoms") / "data"
    assert main(["phantoms", "--out", str(out), "--count", "20", "--size", "80", "97"]) == 0
    return out


@pytest.fixture(scope="session")
def small_fit() -> tuple[str, ...]:
    """Return settings of a training that takes seconds."""
    return FIT


@pytest.fixture(scope="session")
def run_folder(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of one small training."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["fit", f"--data.root={phantoms}", f"--out={out}", *FIT]) == 0
    return out


@pytest.fixture(scope="session")
def fold_options(phantoms: Path, small_fit: tuple[str, ...]) -> tuple[str, ...]:
    """Return settings that train two folds, mirrored left to right only, of a net traced soon."""
    own = ("--trainer.max_epochs=1", "--data.folds=2", "--data.workers=0")
    small = ("--augment.kind=photo", "--net.widths=[4,6]")
    return (f"--data.root={phantoms}", *small_fit, *own, *small)


@pytest.fixture(scope="session")
def folds(
    fold_options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> FoldsDirectory:
    """Return the runs of both folds, trained by one command."""
    out = tmp_path_factory.mktemp("folds") / "all"
    with one_thread():
        assert main(["fit", *fold_options, "--data.fold=all", f"--out={out}"]) == 0
    found = read_folds(out)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def exported_model(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model file of that run, in a repository of its own."""
    to = tmp_path_factory.mktemp("repository")
    assert main(["export", str(run_folder), "--name", "cells", "--to", str(to)]) == 0
    return to / "cells" / "1" / "model.onnx"
