"""``python -m training fit`` on small phantoms, for real."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from training.__main__ import main
from training.fit.checkpoint import (
    CheckpointUnreadable,
    Description,
    load_graph,
    read_checkpoint,
)
from training.fit.resume import RunChanged, check_unchanged
from training.fit.run_directory import RunDirectory

pytestmark = pytest.mark.slow


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / "last.ckpt")[1]


def test_a_run_directory_holds_what_is_needed_to_repeat_it(run_folder: Path) -> None:
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config["net"]["widths"] == [6, 10, 14]
    assert config["trainer"]["max_epochs"] == 3
    split = json.loads((run_folder / "split.json").read_text())
    parts = [set(split[part]) for part in ("train", "val", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20
    assert json.loads((run_folder / "environment.json").read_text())["seed"] == 0
    assert list((run_folder / "logs").glob("events.out.tfevents.*"))
    with (run_folder / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["val/dice"] != "" for row in rows) == 3
    assert {p.name for p in (run_folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    with (run_folder / "validation.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert {case["stem"] for case in cases} == parts[1]
    assert {case["class"] for case in cases} == {"background", "cell"}
    for case in cases:
        dice = float(case["dice"])
        assert float(case["iou"]) == pytest.approx(dice / (2 - dice), abs=1e-5)


def test_the_loss_falls(run_folder: Path) -> None:
    with (run_folder / "logs" / "metrics.csv").open() as file:
        losses = [
            float(r["train/loss_epoch"]) for r in csv.DictReader(file) if r["train/loss_epoch"]
        ]
    assert losses[-1] < 0.9 * losses[0]


def test_the_written_config_repeats_the_run_bit_for_bit(run_folder: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    config["out"] = None
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(path), "--out", str(tmp_path / "again")]) == 0
    again, first = weights(tmp_path / "again"), weights(run_folder)
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_resuming_after_an_epoch_gives_the_unbroken_runs_weights(
    phantoms: Path, run_folder: Path, small_fit: tuple[str, ...], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    command = ["fit", f"--data.root={phantoms}", f"--out={broken}", *small_fit]
    with pytest.MonkeyPatch.context() as patch:
        # The process ends in the middle of the second epoch.
        from training.fit.module import SegmentationModule

        step = SegmentationModule.training_step

        def dies(self: SegmentationModule, batch: dict[str, object], batch_index: int) -> object:
            if self.current_epoch == 1 and batch_index == 1:
                raise SystemExit(9)
            return step(self, batch, batch_index)

        patch.setattr(SegmentationModule, "training_step", dies)
        with pytest.raises(SystemExit):
            main(command)
    assert main(["fit", "--resume", str(broken)]) == 0
    resumed, unbroken = weights(broken), weights(run_folder)
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)


def test_a_twin_starts_from_another_checkpoint(
    phantoms: Path, run_folder: Path, small_fit: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "from"
    assert (
        main(
            [
                "fit",
                f"--data.root={phantoms}",
                f"--out={out}",
                *small_fit,
                f"--init-from={run_folder / 'checkpoints' / 'last.ckpt'}",
                "--trainer.limit_train_batches=1",
                "--trainer.max_epochs=1",
                "--optimiser.lr=1e-12",
            ]
        )
        == 0
    )
    started, source = weights(out), weights(run_folder)
    convolutions = [name for name in source if name.endswith("weight") and source[name].ndim == 4]
    assert all(torch.allclose(started[n], source[n], atol=1e-6) for n in convolutions)


def test_a_used_run_directory_is_refused(
    phantoms: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "checkpoints" / "last.ckpt").read_bytes()
    assert main(["fit", f"--data.root={phantoms}", f"--out={run_folder}"]) == 1
    assert "--resume" in capsys.readouterr().err
    assert (run_folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_broken_data_set_stops_at_once_with_file_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    picture = np.zeros((8, 8), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "data" / "images" / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "data" / "masks" / "a.png"), picture + 255)
    cv2.imwrite(str(tmp_path / "data" / "images" / "b.png"), picture)
    assert main(["fit", f"--data.root={tmp_path / 'data'}", f"--out={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr().err
    assert "b.png" in said
    assert "255" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--net.long_skips=nonne", "nonne"),
        ("--net.long_skip=none", "long_skip"),  # not taken for a shortened --net.long_skips
        ("--net.norm=bach", "bach"),
        ("--data.val_fraction=2", "val_fraction"),
        ("--data.patch=[0,0]", "patch"),  # before anything is planned around it
        ("--max-minutes=-1", "above 0"),
        ("--trainer.check_val_every_n_epoch=0", "above 0"),
        ("--trainer.max_epochs=0", "trains nothing"),
        ("--trainer.max_steps=0", "trains nothing"),
    ],
)
def test_a_wrong_setting_ends_in_a_line_and_not_in_a_traceback(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    command = ["fit", f"--data.root={phantoms}", f"--out={tmp_path / 'run'}", option]
    try:
        code = main(command)
    except SystemExit as exit_:  # what argparse itself refuses
        code = int(str(exit_.code))
    assert code in (1, 2)
    text = capsys.readouterr().err
    assert said in text
    assert len(text.splitlines()) < 12
    assert not (tmp_path / "run").exists()


def test_what_lightning_refuses_ends_in_a_line(
    phantoms: Path,
    small_fit: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["fit", f"--data.root={phantoms}", f"--out={tmp_path / 'run'}", *small_fit]
    assert main([*command, "--trainer.accelerator=cpu", "--trainer.devices=0"]) == 1
    assert "Lightning refuses an option under trainer" in capsys.readouterr().err


def test_a_resumed_run_is_held_against_its_checkpoint(run_folder: Path) -> None:
    run = RunDirectory(run_folder)
    began, _ = read_checkpoint(run.checkpoint("last"))
    assert check_unchanged(run, began, began) is None
    seen = began.training_data
    assert seen is not None

    def now(**fields: object) -> Description:
        return began.model_copy(update=fields)

    copied = seen.image_hashes[:-1]  # the last one became a copy of another
    said = check_unchanged(
        run, began, now(training_data=seen.model_copy(update={"image_hashes": copied}))
    )
    assert said is not None
    assert said.startswith(f"1 of {seen.images} training images")
    labelled = seen.model_copy(update={"class_pixel_fraction": (0.5, 0.5)})
    assert "masks" in str(check_unchanged(run, began, now(training_data=labelled)))
    renamed = tuple(kind.model_copy(update={"name": f"x{kind.name}"}) for kind in began.classes)
    for field, value, named in (
        ("classes", renamed, "xbackground"),
        ("net", {**began.net, "widths": [4, 8]}, "net.widths"),
        ("seed", 77, "seed"),
        ("patch", (8, 8), "patch"),
    ):
        with pytest.raises(RunChanged, match=named):
            check_unchanged(run, began, now(**{field: value}))


@pytest.mark.parametrize("config", [None, "a: [\n", "", "net:\n  match: wi\n"])
def test_a_run_without_its_settings_says_so(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str | None
) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last.ckpt").symlink_to(run_folder / "checkpoints" / "last.ckpt")
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    assert main(["fit", f"--resume={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert "config.yaml cannot be read" in said
    assert "--init-from" in said


def test_resume_takes_no_other_settings(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", f"--resume={run_folder}", "--trainer.max_epochs=100"]) == 1
    assert "--trainer.max_epochs" in capsys.readouterr().err


def test_the_last_checkpoint_does_not_wait_for_a_validation(
    phantoms: Path, small_fit: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ["fit", f"--data.root={phantoms}", f"--out={out}", *small_fit]
    assert main([*command, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=5"]) == 0
    assert {p.name for p in (out / "checkpoints").iterdir()} == {"last.ckpt"}


def test_a_time_limit_is_kept_and_said(
    phantoms: Path,
    small_fit: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    command = ["fit", f"--data.root={phantoms}", f"--out={out}", *small_fit]
    assert main([*command, "--trainer.max_epochs=5000", "--max-minutes=0.03"]) == 0
    assert "stopped early" in capsys.readouterr().out


def test_checkpoints_describe_themselves_and_broken_ones_say_so(
    run_folder: Path, tmp_path: Path
) -> None:
    path = run_folder / "checkpoints" / "best.ckpt"
    description, graph = load_graph(path)
    assert description.net["widths"] == [6, 10, 14]
    assert description.classes[0].name == "background"
    assert not graph.training
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointUnreadable, match="truncated"):
        read_checkpoint(cut)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(CheckpointUnreadable, match="not written by"):
        read_checkpoint(foreign)
