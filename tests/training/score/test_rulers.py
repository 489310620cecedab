"""Spacing of each image's own, and intervals over groups."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from contract.errors import DataError, RequestInvalid
from contract.measures import Ruler
from contract.metrics import summarise
from contract.paired import paired_difference
from training.__main__ import main
from training.data.folder import FolderDataset, open_folder
from training.score.rulers import Rulers, rulers_for

SPACINGS = {"a1": (0.5, 0.5), "a2": (0.5, 2.0), "b1": (1.0, 3.0), "c1": (0.25, 0.25)}
ROWS = "".join(f"{s}.png,{s[0]},{r},{c}\n" for s, (r, c) in SPACINGS.items())
TABLE = "stem,patient,row_mm,column_mm\n" + ROWS
SPEC = """classes: [{name: background}, {name: bright}]
table: items.csv
group_column: patient
spacing_columns: [row_mm, column_mm]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of three patients, each with an answer 3 rows and 2 columns off."""
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number, stem in enumerate(SPACINGS):
        bright, mask = np.zeros((40, 48), np.uint8), np.zeros((40, 48), np.uint8)
        bright[8:20, 10:25], mask[11:23, 12:27] = 1, 1
        mask[30:34, : 3 * number] = 1
        cv2.imwrite(str(root / "images" / f"{stem}.png"), 20 + 200 * bright)
        cv2.imwrite(str(root / "masks" / f"{stem}.png"), mask)
    (root / "items.csv").write_text(TABLE)
    (root / "dataset.yaml").write_text(SPEC)
    return root


@pytest.fixture
def dataset(folder: Path) -> FolderDataset:
    return open_folder(folder)


def evaluate(folder: Path, model: Path, *options: str) -> tuple[dict, dict]:
    out = folder.parent / "scores"
    command = ["evaluate", str(model), f"--data.root={folder}", f"--out={out}", "--device=cpu"]
    assert main([*command, *options]) == 0
    with (out / "cases.csv").open() as file:
        rows = {row["stem"]: row for row in csv.DictReader(file)}
    return rows, json.loads((out / "summary.json").read_text())


def test_each_image_is_measured_in_its_own_millimetres(
    folder: Path,
    tmp_path: Path,
    build_threshold_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build_threshold_model(tmp_path / "model.onnx", threshold=1.5)
    rows, summary = evaluate(folder, model, "--metrics=all")
    assert "4 sizes of pixel, each image its own; NSD within 2.5 mm" in capsys.readouterr().out
    assert (summary["length_unit"], summary["spacing_mm"], summary["spacings"]) == ("mm", None, 4)
    for stem, spacing in SPACINGS.items():
        alone, one = evaluate(
            folder, model, f"--spacing-mm={spacing[0]},{spacing[1]}", "--nsd-tolerance=2.5",
            "--metrics=all",
        )  # fmt: skip
        assert one["spacing_mm"] == list(spacing)
        for column in ("hd95_mm", "assd_mm", "nsd", "dice"):
            assert rows[stem][column] == alone[stem][column], (stem, column)
        assert (rows[stem]["row_mm"], rows[stem]["column_mm"]) == tuple(map(str, spacing))
    assert float(rows["a2"]["hd95_mm"]) > float(rows["a1"]["hd95_mm"])


def test_intervals_and_tests_are_over_groups(
    folder: Path,
    tmp_path: Path,
    build_threshold_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, other = (
        build_threshold_model(tmp_path / f"{t}.onnx", name=f"m{i}", threshold=t)
        for i, t in enumerate((1.5, 0.2))
    )
    rows, summary = evaluate(folder, ours, f"--against={other}")
    groups = [row["group"] for row in rows.values()]
    assert groups == ["a", "a", "b", "c"]
    assert summary["groups"] == 3
    dice = [float(row["dice"]) for row in rows.values()]
    expected = summarise(dice, groups=groups)
    assert summary["metrics"]["dice"]["bright"]["ci95"] == pytest.approx(expected.ci95, abs=1e-5)
    with (tmp_path / "scores" / "cases-against.csv").open() as file:
        theirs = [float(row["dice"]) for row in csv.DictReader(file)]
    test = paired_difference(dice, theirs, groups=groups).test
    assert test is not None
    assert summary["difference"]["dice"]["bright"]["p_value"] == pytest.approx(test.p_value)
    assert "4 images of 3 groups" in capsys.readouterr().out


def test_the_command_line_wins_then_the_table_then_one_for_all(
    folder: Path, dataset: FolderDataset
) -> None:
    stems = list(SPACINGS)
    assert rulers_for(dataset, stems, spacing_mm="2").of("a2") == Ruler((2, 2))
    own = rulers_for(dataset, stems)
    # Coarser steps 0.5, 2, 3 and 0.25: two pixels of the median.
    assert own.of("a2") == Ruler((0.5, 2.0), 2.5)
    assert rulers_for(dataset, ["a2"]).of("a2") == Ruler((0.5, 2.0), 4.0)
    assert rulers_for(dataset, stems, nsd_tolerance=1).of("b1") == Ruler((1.0, 3.0), 1)
    (folder / "dataset.yaml").write_text("spacing_mm: [0.5, 0.25]\n")
    assert rulers_for(open_folder(folder), stems) == Rulers(Ruler((0.5, 0.25)))
    (folder / "dataset.yaml").write_text("{}")
    assert rulers_for(open_folder(folder), stems).of("a1") == Ruler()
    (folder / "dataset.yaml").write_text("table: items.csv\nspacing_columns: [row_mm]\n")
    assert rulers_for(open_folder(folder), stems, nsd_tolerance=1).of("b1") == Ruler((1, 1), 1)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (TABLE.replace("a2.png,a,0.5,2.0\n", ""), "'a2', there is no row"),
        (TABLE.replace("1.0,3.0", "1.0,"), "no spacing of 'b1', it has"),
        (TABLE.replace("1.0,3.0", "1.0,-3"), "above 0"),
        (TABLE.replace("1.0,3.0", "1.0,nan"), "no spacing of 'b1'"),
        (
            TABLE.replace("row_mm", "rows"),
            "no column 'row_mm'; its columns are stem",
        ),
    ],
)
def test_a_table_that_lacks_a_spacing_is_refused(
    folder: Path, dataset: FolderDataset, table: str, words: str
) -> None:
    (folder / "items.csv").write_text(table)
    with pytest.raises(DataError, match=words):
        rulers_for(dataset, list(SPACINGS))


@pytest.mark.parametrize("spec", ["spacing_mm: [0, 1]\n", "spacing_columns: [row_mm]\n"])
def test_a_dataset_yaml_that_cannot_be_is_refused(folder: Path, spec: str) -> None:
    (folder / "dataset.yaml").write_text(spec)
    with pytest.raises(DataError, match="spacing"):
        open_folder(folder)


@pytest.mark.parametrize("text", ["1,2,3", "half", ""])
def test_what_is_no_spacing_is_refused(dataset: FolderDataset, text: str) -> None:
    with pytest.raises(RequestInvalid, match="one number"):
        rulers_for(dataset, list(SPACINGS), spacing_mm=text)


def test_pixels_have_no_diagonal_in_millimetres() -> None:
    assert Rulers().of("any").diagonal((3, 4)) == math.hypot(3, 4)
