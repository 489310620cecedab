"""``--data.fold all``: K runs by one command, gone on with by one command."""

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
import yaml

from contract.errors import RequestInvalid
from training.__main__ import main
from training.data.config import DataConfig
from training.data.split import read_split
from training.fit.checkpoint import read_whole
from training.fit.command import main as fit_main
from training.fit.folds import FoldsDirectory, read_folds, runs_of
from training.fit.run_directory import RunDirectory, RunDirectoryError
from training.fit.stop import requeued_run

FOLDS = 2  # as the fixture trains them


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Train as the folds and as the processes that are killed: threads decide on rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = read_whole(run.checkpoint("last"))["state_dict"]
    return stored


def assert_equal_weights(first: RunDirectory, second: RunDirectory) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_fold_of_all_is_the_fold_trained_by_itself(
    folds: FoldsDirectory, fold_options: tuple[str, ...], tmp_path: Path
) -> None:
    # The last one, before which another training ran in the same process.
    alone = tmp_path / "alone"
    assert fit_main([*fold_options, "--data.fold=1", f"--out={alone}"]) == 0
    assert_equal_weights(folds.run(1), RunDirectory(alone))
    assert folds.run(1).split.read_text() == RunDirectory(alone).split.read_text()


def test_each_image_outside_of_the_test_part_validates_once(folds: FoldsDirectory) -> None:
    splits = [yaml.safe_load(folds.run(k).split.read_text()) for k in range(FOLDS)]
    validated = [stem for split in splits for stem in split["val"]]
    assert sorted(validated) == sorted({*splits[0]["train"], *splits[0]["val"]})
    assert splits[0]["test"] == splits[1]["test"]
    assert set(splits[0]["test"]).isdisjoint(validated)


def test_a_folds_config_repeats_it_with_the_reasons(folds: FoldsDirectory) -> None:
    settings = yaml.safe_load(folds.run(1).config.read_text())
    assert (settings["data"]["fold"], settings["data"]["folds"]) == (1, FOLDS)
    assert settings["out"] == str(folds.run(1).root)
    ours, whole = (p.read_text() for p in (folds.run(1).config, folds.config))
    assert ours.count("#") == whole.count("#") > 0


def test_a_fold_that_begins_must_be_of_the_same_images(folds: FoldsDirectory) -> None:
    split = read_split(folds.run(1).split)
    folds.check_split(split)
    assert split.folds is not None
    for other in (
        replace(split, train=split.train[1:]),  # one image went
        replace(split, train=(*split.train, "new")),
        replace(split, train=(*split.train[1:], *split.test), test=split.train[:1]),
        replace(split, folds=split.folds + 1),
    ):
        with pytest.raises(RunDirectoryError, match="train all folds anew"):
            folds.check_split(other)


def test_fit_refuses_a_fold_of_another_number_of_folds(
    folds: FoldsDirectory,
    fold_options: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = folds.root / "fold-7"
    arguments = ["fit", *fold_options, f"--data.folds={FOLDS + 1}", "--data.fold=0"]
    assert main([*arguments, f"--out={new}"]) == 1
    assert f"in {FOLDS + 1} folds" in capsys.readouterr().err
    assert not new.exists()


def train_until_a_fold(arguments: tuple[str, ...], fold: int, said: str) -> None:
    """In another process: be killed in the middle of a fold, after its first step."""
    import os
    import sys

    from training.fit.module import SegmentationModule

    file = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    step = SegmentationModule.training_step

    def deadly_step(self: SegmentationModule, batch: object, index: int) -> object:
        if index == 1 and str(self.trainer.default_root_dir).endswith(f"fold-{fold}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, index)  # type: ignore[arg-type]

    SegmentationModule.training_step = deadly_step  # type: ignore[assignment,method-assign]
    sys.exit(main(["fit", *arguments]))


@pytest.mark.parametrize("checkpoint_minutes", [0, 5])
def test_killed_in_the_second_fold_the_same_command_with_resume_goes_on(
    processes: ForkServerContext,
    folds: FoldsDirectory,
    fold_options: tuple[str, ...],
    tmp_path: Path,
    checkpoint_minutes: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "all"
    arguments = (
        *fold_options,
        "--data.fold=all",
        f"--out={out}",
        f"--checkpoint-minutes={checkpoint_minutes}",
    )
    process = processes.Process(
        target=train_until_a_fold, args=(arguments, 1, str(tmp_path / "said"))
    )
    process.start()
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "said").read_text()
    killed = FoldsDirectory(out, FOLDS)
    # With a checkpoint after each step there is one to go on from; else fold 1 begins again.
    assert (killed.run(1).checkpoints / "last.ckpt").is_file() is (checkpoint_minutes == 0)
    first = killed.run(0).checkpoint("last").read_bytes()
    if checkpoint_minutes:
        with pytest.raises(RunDirectoryError, match="no checkpoint of fold-1 yet"):
            runs_of([out])
    assert fit_main([f"--resume={out}"]) == 0
    assert "fold-0 was trained to its end" in capsys.readouterr().out
    assert killed.run(0).checkpoint("last").read_bytes() == first
    for fold in range(FOLDS):
        assert_equal_weights(killed.run(fold), folds.run(fold))


def test_resume_takes_no_other_setting(folds: FoldsDirectory) -> None:
    with pytest.raises(RequestInvalid, match=r"--data\.folds cannot be given"):
        fit_main([f"--resume={folds.root}", "--data.folds=3"])


def test_a_requeued_job_goes_on_with_its_folds(
    folds: FoldsDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requeued_run(folds.root) == folds.root


def test_all_needs_a_number_of_folds_and_one_process(phantoms: Path) -> None:
    with pytest.raises(ValueError, match="folds >= 2"):
        DataConfig(fold="all")
    with pytest.raises(RequestInvalid, match="folds >= 2"):
        fit_main([f"--data.root={phantoms}", "--data.fold=all"])
    with pytest.raises(RequestInvalid, match="one process"):
        fit_main(
            [f"--data.root={phantoms}", "--data.fold=all", "--data.folds=2", "--trainer.devices=2"]
        )


def test_an_ordinary_run_is_no_folder_of_folds(run_folder: Path, tmp_path: Path) -> None:
    assert read_folds(run_folder) is None
    assert read_folds(tmp_path) is None
    assert runs_of([run_folder]) == [RunDirectory(run_folder)]
