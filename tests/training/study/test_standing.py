"""What ``--report-only`` says of a folder midway, and of one that was damaged."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.study.building import build_study
from training.__main__ import main
from training.study.config import StudyError
from training.study.record import read_record
from training.study.standing import runs_of, tries_of

STUDY: dict[str, Any] = {
    "name": "midway",
    "question": "Do skips help?",
    "datasets": {"a": {"root": "/secret"}},
    "arms": {"all": {"net.long_skips": "concat"}, "none": {"net.long_skips": "none"}},
    "reference": "all",
    "steps": 10,
    "seeds": [0, 1],
    "learning_rates": [0.1, 0.2],
    "metrics": [],
}


@pytest.fixture
def midway(tmp_path: Path) -> Path:
    """Return a study with one of four tries and two of four runs, one of which failed."""
    return build_study(
        tmp_path,
        STUDY,
        {("a", "all", 0): [[0.9], [0.8]]},
        states={("a", "none", 1): "failed"},
        sweep={("a", "all", 0.1): 0.5},
    )


def test_tries_and_runs_that_are_missing_are_named(
    midway: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = midway / "given.yaml"
    config.write_text("name: x\nquestion: x\nreference: a\nsteps: 1\narms: {a: {}}\n")

    assert main(["study", str(config), "--out", str(midway), "--report-only"]) == 0

    said = capsys.readouterr().out
    assert "learning rates: 1 of 4 done, 3 not done (a all lr-0.2, a none lr-0.1, a none lr" in said
    assert "runs: 1 of 4 done, 2 not done (a none seed-0, a all seed-1), 1 failed (a none" in said
    page = (midway / "report.html").read_text()
    assert "Unfinished: 2 of 4 runs and 3 of 4 tries of learning rates are still to be" in page


def test_a_study_killed_before_its_first_table_is_all_missing(midway: Path) -> None:
    for table in ("runs.csv", "sweep.csv", "cases.csv"):
        (midway / table).unlink()

    record = read_record(midway)

    assert len(tries_of(record).missing) == 4
    assert str(runs_of(record)).startswith("0 of 4 done, 4 not done (a all seed-0, a none seed-0,")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("study.yaml", ""),
        ("study.yaml", "[1]"),
        ("study.yaml", "study: {name: 3}"),
        ("study.yaml", "a: ["),
        ("cases.csv", "x\n1\n"),
        ("cases.csv", "dataset,arm,seed,stem,class,dice\na,all\n"),
        ("runs.csv", "dataset,arm,seed,lr,steps,state\na,all,zero,0.1,3,done\n"),
        ("sweep.csv", "\n1,2\n"),
    ],
)
def test_a_damaged_file_of_the_study_is_named(midway: Path, file: str, content: str) -> None:
    (midway / file).write_text(content)

    with pytest.raises(StudyError, match=f"{file} is damaged; remove it and run"):
        read_record(midway)


def test_a_table_without_lines_is_no_damage(midway: Path) -> None:
    (midway / "cases.csv").write_text("")
    (midway / "runs.csv").write_text("\n")

    assert read_record(midway).cases == ()
