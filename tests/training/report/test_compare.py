"""``python -m training compare``: settings, scores and costs of runs side by side."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from training.__main__ import main
from training.fit.checkpoint import CHECKPOINT_KEY
from training.fit.run_directory import RunDirectory
from training.plan.keep_time import KeepToTime
from training.report.compare import compare
from training.report.compare_page import as_html, as_text
from training.report.record import RunRecord, read_run

SETTINGS = """\
data: {root: /data/cells, batch_size: 4}
net: {long_skips: concat}
trainer: {max_epochs: 2}
seed: 0
out: runs/a
"""
LOG = (
    "epoch,step,train/loss_epoch,val/dice,val/dice.cell\n"
    "0,4,0.9,,\n0,4,,0.5,0.5\n1,9,0.7,,\n1,9,,0.6,0.6\n"
)


def run_with(
    root: Path, dice: dict[str, float | None], *, settings: str = SETTINGS, log: str = LOG
) -> RunRecord:
    """Write a run directory as `fit` leaves it, without checkpoints."""
    (root / "logs").mkdir(parents=True)
    (root / "config.yaml").write_text(settings)
    (root / "logs" / "metrics.csv").write_text(log)
    with (root / "validation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["stem", "class", "dice", "iou"])
        for stem, value in dice.items():
            iou = "" if value is None else value / (2 - value)
            writer.writerow([stem, "background", 0.99, 0.98])
            writer.writerow([stem, "cell", "" if value is None else value, iou])
    return read_run(root)


def test_only_settings_that_differ_are_told_and_places_are_not(tmp_path: Path) -> None:
    other = SETTINGS.replace("concat", "none").replace("runs/a", "runs/b") + "compile: true\n"
    records = [
        run_with(tmp_path / "a", {"x": 0.5}),
        run_with(tmp_path / "b", {"x": 0.5}, settings=other),
    ]
    found = compare(records)
    assert found.differing == {"net.long_skips": ("concat", "none"), "compile": (None, True)}
    assert "net.long_skips" in as_text(found)
    assert "data.root" not in as_text(found)


def test_differences_are_taken_case_by_case_over_the_common_images(tmp_path: Path) -> None:
    first = {"x": 0.5, "y": 0.7, "z": 0.9, "only a": 0.1, "empty": None}
    second = {"x": 0.6, "y": 0.7, "z": 0.92, "only b": 1.0, "empty": None}
    found = compare([run_with(tmp_path / "a", first), run_with(tmp_path / "b", second)])
    assert found.common == ("empty", "x", "y", "z")
    assert found.left_out == 2
    row = next(row for row in found.rows if row.metric == "dice")
    assert {row.kind for row in found.rows} == {"cell"}  # the background is no class to score
    assert row.means[0].mean == pytest.approx(0.7)
    assert row.means[1].mean == pytest.approx(0.74)
    assert row.means[0].excluded_empty == 1
    difference = row.differences[0]
    assert difference.summary.mean == pytest.approx(0.04)
    low, high = difference.summary.ci95 or (np.nan, np.nan)
    assert 0.0 <= low <= 0.04 <= high <= 0.1
    # Two of three differ, by the same sign: of four sign patterns two are as far from 0.
    assert difference.test is not None
    assert difference.test.p_value == pytest.approx(0.5)
    text = as_text(found)
    assert "2 images were scored by some of the runs only" in text
    assert "+0.0400" in text
    # On the page the same, in cells that break between figures and not within one.
    page = as_html(found)
    assert '<table class="wraps">' in page
    assert "p\u00a0=\u00a00.5<" in page
    assert "+0.0400 (" in page


def test_a_run_against_itself_differs_in_nothing(tmp_path: Path) -> None:
    record = run_with(tmp_path / "a", {"x": 0.5, "y": 0.7})
    found = compare([record, record])
    assert found.differing == {}
    assert len(set(found.names)) == 2
    assert all(d.summary.mean == 0 for row in found.rows for d in row.differences)
    assert "all settings are the same" in as_text(found)


def test_runs_without_a_common_image_or_any_score_are_still_compared(tmp_path: Path) -> None:
    records = [
        run_with(tmp_path / "a", {"x": 0.5}),
        run_with(tmp_path / "b", {"y": 0.5}, log="epoch,step,train/loss_epoch\n0,4,0.9\n"),
        run_with(tmp_path / "c", {}, log=""),
    ]
    (records[2].run.root / "validation.csv").unlink()
    found = compare(records)
    assert found.common == ()
    assert found.rows == ()
    text = as_text(found)
    assert "nothing to compare case by case" in text
    assert "Not trained to the planned end: b, c" in text
    assert "Scores" in as_html(found)


def test_a_run_that_was_shortened_to_its_time_is_not_called_unfinished(tmp_path: Path) -> None:
    run_with(tmp_path / "a", {"x": 0.5})
    epochs = read_run(tmp_path / "a").history.epochs
    late = SETTINGS.replace(f"max_epochs: {epochs}", f"max_epochs: {epochs + 28}")
    for name, left in (("b", epochs), ("c", epochs + 1)):
        run_with(tmp_path / name, {"x": 0.6}, settings=late)
        kept = KeepToTime(0.0)
        kept.max_epochs = left
        (tmp_path / name / "checkpoints").mkdir()
        torch.save(
            {"callbacks": {kept.state_key: kept.state_dict()}},
            tmp_path / name / "checkpoints" / "last.ckpt",
        )
    text = as_text(compare([read_run(tmp_path / name) for name in "abc"]))
    assert f"time limit: b ({epochs} of {epochs + 28} epochs)." in text
    assert "planned end: c." in text


def test_reports_are_compared_only_where_all_runs_have_one(tmp_path: Path) -> None:
    records = [run_with(tmp_path / name, {"x": 0.5, "y": 0.5}) for name in "ab"]
    for record, dice, hd95 in zip(records, (0.6, 0.8), (9.0, 4.0), strict=True):
        checkpoints = RunDirectory(record.run.root).checkpoints
        checkpoints.mkdir()
        (checkpoints / "best.ckpt").write_bytes(b"")
        if record is records[1]:
            assert "last validation pass" in compare(records).source
        rows = [f"{stem},cell,{dice},{hd95}" for stem in "xy"]
        text = "\n".join(["stem,class,dice,hd95_px", *rows])
        (record.run.root / "report-val.csv").write_text(text + "\n")
    found = compare(records)
    assert "best checkpoint" in found.source
    means = {row.metric: [mean.mean for mean in row.means] for row in found.rows}
    assert means == {"dice": [0.6, 0.8], "hd95": [9.0, 4.0]}


def test_runs_of_other_images_under_the_same_names_are_told_apart(
    run_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run_folder, tmp_path / "other"))
    same = compare([read_run(run_folder), read_run(other)])
    assert same.renamed == 0
    assert "different images" not in as_text(same)
    path = other / "checkpoints" / "last.ckpt"
    stored = torch.load(path, weights_only=True)
    hashes = stored[CHECKPOINT_KEY]["training_data"]["image_hashes"]
    hashes[:2] = ["0" * 16, "1" * 16]
    torch.save(stored, path)
    found = compare([read_run(run_folder), read_run(other)])
    assert found.renamed == 2
    assert "2 training images have one name" in as_text(found)


def test_one_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_with(tmp_path / "a", {"x": 0.5})
    assert main(["compare", str(tmp_path / "a")]) == 1
    assert "at least two" in capsys.readouterr().err


@pytest.mark.slow
def test_real_runs_side_by_side(
    run_folder: Path,
    tmp_path: Path,
    parsed: Callable,
    rendered: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Path(shutil.copytree(run_folder, tmp_path / "other"))
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["seed"] = 7
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "comparison.html"
    assert main(["compare", str(run_folder), str(other), "--out", str(out)]) == 0
    page = parsed(out)
    settings = next(t for t in page.tables if t[0][0] == "setting")
    assert settings[1:] == [["seed", "0", "7"]]
    with (run_folder / "validation.csv").open() as file:
        dice = [float(r["dice"]) for r in csv.DictReader(file) if r["class"] == "cell"]
    scores = next(t for t in page.tables if t[0][:2] == ["class", "metric"])
    assert scores[1][2].startswith(f"{np.mean(dice):.4f}")
    assert scores[1][4].startswith("+0.0000")
    assert "parameters" in capsys.readouterr().out
    assert rendered(out).is_file()
