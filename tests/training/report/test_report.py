"""``python -m training report`` on a small real run, in every state that a run can be in."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from contract.metrics import ClassScore
from contract.model import Model
from training.__main__ import main
from training.data.case import Case
from training.fit.alarms import Alarm, read_alarms, write_alarms
from training.report.answers import chosen_cases, collapsed
from training.score.cases import ScoredCase

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copied(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run, so that what is written into it disturbs nobody."""
    return Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("report") / "secret-run"))


@pytest.fixture(scope="module")
def report(copied: Path, exported_model: Path) -> Path:
    assert main(["report", str(copied), "--model", str(exported_model)]) == 0
    return copied / "report.html"


def numbers_by_class(table: list[list[str]]) -> dict[tuple[str, str], list[str]]:
    return {(row[0], row[1]): row[2:] for row in table[1:]}


def test_the_page_stands_alone_and_has_every_section(report: Path, parsed: Callable) -> None:
    page = parsed(report)
    for title in (
        "Data", "Choices", "Curves", "Scores on the validation images",
        "Worst, median and best images", "Where it fails", "Calibration", "Timing",
        "Environment", "How to repeat",
    ):  # fmt: skip
        assert title in page.text
    assert "Finished: all 3 epochs were trained." in page.text
    assert page.tags.count("figure") >= 3 + 3  # curves, spread, reliability and three cases


def test_scores_in_the_page_are_those_of_the_table_beside_it(
    report: Path, copied: Path, parsed: Callable
) -> None:
    with (copied / "report-val.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = next(t for t in parsed(report).tables if t[0][:3] == ["class", "metric", "mean"])
    shown = numbers_by_class(table)
    for metric, label in (("dice", "Dice"), ("iou", "IoU")):
        values = [float(row[metric]) for row in rows if row[metric]]
        mean, interval, images, empty = shown["cell", label][:4]
        assert float(mean) == pytest.approx(np.mean(values), abs=6e-5)
        low, high = map(float, interval.split(" to "))
        assert min(values) - 1e-4 <= low <= float(mean) <= high <= max(values) + 1e-4
        assert int(images) == len(values)
        assert int(empty) == len(rows) - len(values)
    for row in rows:
        if row["stem"] in parsed(report).text:
            assert f"Dice {float(row['dice']):.4f}" in parsed(report).text


def test_what_was_logged_and_where_it_ran_is_in_the_page(
    report: Path, copied: Path, parsed: Callable
) -> None:
    text = parsed(report).text
    with (copied / "logs" / "metrics.csv").open() as file:
        dice = [float(row["val/dice"]) for row in csv.DictReader(file) if row["val/dice"]]
    assert f"Best Dice over classes {max(dice):.4f}" in text
    assert f"last {dice[-1]:.4f}" in text
    environment = json.loads((copied / "environment.json").read_text())
    assert environment["packages"]["torch"] in text
    assert environment["platform"] in text
    settings = yaml.safe_load((copied / "config.yaml").read_text())
    assert json.dumps(settings["net"]["widths"]) in text
    assert "net.widths" in text


def test_the_same_run_gives_the_same_page(
    report: Path, copied: Path, exported_model: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.html"
    call = ["report", str(copied), "--model", str(exported_model), "--out", str(again)]
    assert main(call) == 0
    assert again.read_bytes() == report.read_bytes()


def test_an_anonymous_page_names_no_image_and_no_folder(
    copied: Path, exported_model: Path, phantoms: Path, tmp_path: Path, parsed: Callable
) -> None:
    environment = copied / "environment.json"
    facts = json.loads(environment.read_text())
    # As it was called from a command line.
    facts["command"] = [
        "python", "-m", "training", "fit", f"--data.root={phantoms}", "--out", str(copied),
    ]  # fmt: skip
    environment.write_text(json.dumps(facts))
    out = tmp_path / "sent.html"
    call = ["report", str(copied), "--model", str(exported_model), "--anonymous", "--out", str(out)]
    assert main(call) == 0
    parsed(out)
    source = out.read_text()
    split = json.loads((copied / "split.json").read_text())
    for stem in (*split["train"], *split["val"], *split["test"]):
        assert stem not in source
    for secret in (
        str(phantoms),
        str(copied),
        copied.name,
        str(exported_model.parent),
        str(tmp_path),
    ):
        assert secret not in source
    numbers = [n for n, s in enumerate(split["train"] + split["val"], start=1) if s in split["val"]]
    assert any(f"case {number}:" in source for number in numbers)


def test_a_reason_in_the_config_stands_beside_its_setting(
    copied: Path, exported_model: Path, tmp_path: Path, parsed: Callable
) -> None:
    run = Path(shutil.copytree(copied, tmp_path / "run"))
    config = run / "config.yaml"
    config.write_text(
        config.read_text().replace("  batch_size:", "  # what <16> GB hold\n  batch_size:")
    )
    out = tmp_path / "report.html"
    assert main(["report", str(run), "--model", str(exported_model), "--out", str(out)]) == 0
    choices = next(t for t in parsed(out).tables if t[0] == ["setting", "value", "why"])
    assert ["data.batch_size", "4", "what <16> GB hold"] in choices


def test_a_run_killed_before_its_first_checkpoint_has_a_page(
    run_folder: Path, tmp_path: Path, parsed: Callable
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    (run / "validation.csv").unlink()
    metrics = run / "logs" / "metrics.csv"
    text = metrics.read_text()
    metrics.write_text(text[: len(text) // 3])
    assert main(["report", str(run)]) == 0
    page = parsed(run / "report.html")
    assert "Not finished when this page was made" in page.text
    assert "No model could be looked at" in page.text
    assert "Calibration" not in page.text


def test_a_run_whose_data_went_away_has_a_page(
    run_folder: Path, tmp_path: Path, parsed: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    root = tmp_path / "nowhere"
    assert main(["report", str(run_folder), "--data.root", str(root), "--out", str(out)]) == 0
    assert "give its new place by --data.root" in parsed(out).text
    assert "--data.root" in capsys.readouterr().out


def test_what_the_alarm_said_while_it_trained_stands_on_top(
    run_folder: Path, tmp_path: Path, parsed: Callable
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    said = [
        Alarm(50, "dead", part, 4, 5, f"{part}, conv 3", math.nan, 0.001, "--net.init he")
        for part in ("encoder level 1", "bottleneck")
    ]
    write_alarms(run / "alarms.csv", said)
    again = read_alarms(run / "alarms.csv")
    assert [(a.part, a.layers, a.of, a.others) for a in again] == [
        (a.part, a.layers, a.of, a.others) for a in said
    ]
    assert main(["report", str(run)]) == 0
    text = parsed(run / "report.html").text
    assert "alarm at step 50: 8 of 10 layers (encoder level 1, bottleneck) stand still" in text
    assert "--net.init he" in text


def test_the_best_checkpoint_answers_where_no_file_is_given(
    run_folder: Path,
    tmp_path: Path,
    parsed: Callable,
    report: Path,
    copied: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    steps = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in steps[:2]] == ["exporting", "scoring"]
    assert "best.ckpt, exported for this report" in parsed(run / "report.html").text
    # The exported model is that checkpoint, so the scores are the same.
    assert (run / "report-val.csv").read_text() == (copied / "report-val.csv").read_text()


def test_a_missing_model_file_and_a_folder_that_is_no_run_are_refused(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run_folder), "--model", str(tmp_path / "no.onnx")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "config.yaml" in capsys.readouterr().err


def test_chromium_draws_the_page_without_a_complaint(
    report: Path, rendered: Callable[[Path], Path]
) -> None:
    picture = cv2.imread(str(rendered(report)))
    assert picture is not None
    assert picture.shape[:2] == (6000, 1000)
    dark = picture.min(axis=2) < 128
    # Text and figures down the page, white at the margins.
    assert dark[:3000].any(axis=1).mean() > 0.3
    assert not dark[:, :20].any()
    assert not dark[:, -20:].any()


def test_images_that_trained_the_file_are_told_and_lengths_are_in_millimetres(
    copied: Path, exported_model: Path, parsed: Callable, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(copied, tmp_path / "run"))
    split = json.loads((run / "split.json").read_text())
    # As where a file of other folds is looked at: one image of this part trained it.
    split["val"], split["train"] = [*split["val"], split["train"][0]], split["train"][1:]
    (run / "split.json").write_text(json.dumps(split))
    command = ["report", str(run), "--model", str(exported_model), "--spacing-mm=0.5,2"]
    assert main(command) == 0
    page = parsed(run / "report.html")
    assert f"1 of the {len(split['val'])} images scored below are among those" in page.text
    table = next(t for t in page.tables if t[0][:3] == ["class", "metric", "mean"])
    shown = numbers_by_class(table)
    with (run / "report-val.csv").open() as file:
        rows = list(csv.DictReader(file))
    mean = np.mean([float(row["hd95_mm"]) for row in rows])
    assert float(shown["cell", "HD95 in mm (smaller is better)"][0]) == pytest.approx(
        mean, abs=6e-3
    )
    assert ("cell", "NSD at 4 mm") in shown
    assert {(row["row_mm"], row["column_mm"]) for row in rows} == {("0.5", "2.0")}
    uncertainty = next(t for t in page.tables if t[0][0] == "measure of an image")
    assert [row[0] for row in uncertainty[1:]] == ["entropy of the probabilities"]


def test_a_folder_of_folds_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("data: {folds: 3, fold: all}\n")
    assert main(["report", str(tmp_path)]) == 1
    assert f"give one of them, such as {tmp_path / 'fold-0'}" in capsys.readouterr().err


def scored(stem: str, prediction_px: int, truth_px: int, overlap_px: int) -> ScoredCase:
    return ScoredCase(
        case=Case(stem, Path(f"{stem}.png"), Path(f"{stem}.png")),
        height_px=10,
        width_px=10,
        tiled=False,
        scores=(
            ClassScore(0, 100 - prediction_px, 100 - truth_px, 100 - prediction_px - truth_px),
            ClassScore(1, prediction_px, truth_px, overlap_px),
        ),
        labels=np.zeros((10, 10), dtype=np.uint8),
    )


def test_a_collapse_to_background_is_told_from_a_set_without_objects(exported_model: Path) -> None:
    model = Model.open(exported_model, device="cpu", prove=False)
    assert collapsed(model, [scored("a", 0, 10, 0), scored("b", 0, 0, 0)])
    assert not collapsed(model, [scored("a", 0, 10, 0), scored("b", 1, 10, 1)])
    assert not collapsed(model, [scored("b", 0, 0, 0)])


@pytest.mark.parametrize("count", [0, 1, 2, 4, 8, 9, 20])
def test_worst_median_and_best_cases_are_different_ones(exported_model: Path, count: int) -> None:
    model = Model.open(exported_model, device="cpu", prove=False)
    cases = [scored(f"{n:02}", 20, 20, n) for n in range(count)]
    cases.append(scored("empty", 0, 0, 0))
    chosen = chosen_cases(model, cases)
    stems = [stem for _, stem in chosen]
    assert len(set(stems)) == len(stems) == min(count, 9)
    assert stems == sorted(stems)  # Dice rises with the name
    if count >= 9:
        assert stems[:3] == ["00", "01", "02"]
        assert stems[-1] == f"{count - 1:02}"
        assert [group for group, _ in chosen] == ["worst"] * 3 + ["median"] * 3 + ["best"] * 3
        middle = int(stems[4])
        assert abs(middle - (count - 1) / 2) <= 0.5
