"""The report: whole, one file, and silent on where people keep their files."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.study.building import build_study
from training.__main__ import main
from training.study.analyse import analyse
from training.study.arm_look import arm_looks
from training.study.config import StudyConfig
from training.study.method import without_folders
from training.study.page import as_html
from training.study.record import read_record
from training.study.references import PAPERS, references_in
from training.study.report import write_report

FOUR: dict[str, Any] = {
    "name": "four",
    "question": "Short or long?",
    "background": "Drozdzal (2016) crossed them; Li et al. (2018) tuned the rate.",
    "datasets": {"a": {"root": "/secret/place/of/images"}},
    "factors": {
        "short": {"short": {"net.s": 1}, "no-short": {"net.s": 0}},
        "long": {"long": {"net.l": 1}, "no-long": {"net.l": 0}},
    },
    "reference": "short+long",
    "steps": 10,
    "seeds": [0, 1, 2],
    "learning_rates": [0.1, 0.2],
    "metrics": [],
}
CORNERS = {"short+long": 0.9, "short+no-long": 0.8, "no-short+long": 0.7, "no-short+no-long": 0.0}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a factorial study of two classes with its report."""
    tmp_path = tmp_path_factory.mktemp("page")
    scores = {
        ("a", arm, seed): [[value, value / 2], [value * 0.9, value / 3]] * 4
        for arm, value in CORNERS.items()
        for seed in range(3)
    }
    states = {("a", "no-short+no-long", seed): "collapsed" for seed in range(2)}
    sweep = {("a", arm, rate): rate for arm in CORNERS for rate in (0.1, 0.2)}
    root = build_study(
        tmp_path, FOUR, scores, classes=("cell", "nucleus"), states=states, sweep=sweep
    )
    cell = root / "cells" / "a" / "short+long" / "seed-0" / "probes" / "boundary"
    cell.mkdir(parents=True)
    with (cell / "bands.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ["net", "stem", "class_name", "side", "distance_above", "distance_up_to", "unit"]
        writer.writerow([*columns, "pixels", "errors", "error_rate"])
        for side in ("inside", "outside"):
            for above, up_to in ((0, 1), (1, 2), (2, "inf")):
                writer.writerow(["n", "case0", "cell", side, above, up_to, "px", 10, 1, 0.1])
    assert write_report(root) == root / "report.html"
    return root


def test_the_page_reads_from_question_to_references(four: Path) -> None:
    page = (four / "report.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Answer",
        "Background",
        "Method",
        "Results",
        "What was found",
        "A closer look",
        "Cost",
        "What failed or collapsed",
        "What this study cannot say",
        "How to repeat it",
        "References",
    ]
    assert "2 collapsed" in page
    assert page.count("(interaction)</td>") == 1
    assert "arXiv:1608.04117" in page
    assert "arXiv:1712.09913" in page
    # It loads nothing, and tells nothing of the machine's folders.
    assert not re.findall(r"""(?:src|href)="(?!data:)""", page)
    assert "/secret" not in page
    assert "--dataset a=images" in page


def test_every_figure_lies_in_the_folder_as_png_and_svg(four: Path) -> None:
    page = (four / "report.html").read_text(encoding="utf-8")
    figures = {path.stem for path in (four / "figures").glob("*.svg")}
    assert figures == {"dice-a", "interaction-a", "cost-a", "learning-rates", "boundary-a"}
    assert figures == {path.stem for path in (four / "figures").glob("*.png")}
    assert page.count("data:image/svg+xml") == len(figures)


def test_the_summary_is_short_and_tells_the_same(four: Path) -> None:
    summary = (four / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("# Study: four on a\n\n**Short or long?**")
    assert "| short+long | 0.615" in summary
    assert "/secret" not in summary
    assert "2 cores x86_64" in summary
    assert len(summary.splitlines()) < 90


def test_a_report_is_written_of_a_study_midway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {("a", "short+long", 0): [[0.9], [0.8]]}
    root = build_study(tmp_path, FOUR | {"learning_rates": [0.1]}, scores)
    study = tmp_path / "study.yaml"
    study.write_text("name: four\nquestion: Q?\narms: {x: {}}\nreference: x\nsteps: 1\n")
    command = ["study", str(study), "--dataset", "a=.", "--out", str(root), "--report-only"]
    assert main(command) == 0
    assert "report.html" in capsys.readouterr().out
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "Unfinished: 11 of 12 runs" in page


def test_lengths_have_the_unit_of_their_data_set(tmp_path: Path) -> None:
    study = FOUR | {"metrics": ["hd95", "nsd"], "datasets": {"a": {}, "b": {}}}
    scores = {(d, arm, 0): [[0.9], [0.8]] for d in "ab" for arm in CORNERS}
    root = build_study(tmp_path, study, scores)
    path = root / "study.yaml"
    content = yaml.safe_load(path.read_text())
    record = read_record(root)
    assert record.length_unit("a") == "px or mm"  # of a study that kept none
    said = {"a": ("px", 2.0), "b": ("mm", 0.5)}
    for dataset, (unit, tolerance) in said.items():
        content["images"][dataset] |= {"length_unit": unit, "nsd_tolerance": tolerance}
    path.write_text(yaml.safe_dump(content, sort_keys=False))

    page = as_html(analyse(read_record(root)), [])

    assert read_record(root).length_unit("b") == "mm"
    assert "HD95 in px on a, mm on b" in page
    assert "The tolerance of NSD is 2 px on a, 0.5 mm on b." in page
    assert "px or mm" not in page
    assert "with seed 1000, which no reported run has" in page


def test_fresh_nets_are_mapped_and_not_scored(tmp_path: Path) -> None:
    study = FOUR | {"steps": 0, "name": "fresh"}
    scores = {("a", arm, seed): [[0.0]] for arm in CORNERS for seed in range(3)}
    ratios = {"short+long": 0.5, "short+no-long": 2e-8, "no-short+long": 0.0}
    figures = {
        arm: {
            "gradient-flow.convs": 70.0,
            "gradient-flow.first_per_last": ratio,
            "gradient-flow.centre_per_last": ratio,
        }
        for arm, ratio in (ratios | {"no-short+no-long": 5e4}).items()
    }
    states = {key: "collapsed" for key in scores}
    root = build_study(tmp_path, study, scores, figures=figures, states=states)
    page = write_report(root).read_text(encoding="utf-8")
    assert "Of 4 nets as they are initialised" in page
    assert "thousandth of the last&#x27;s in 2, more than a thousand times in 1" in page
    assert "0 (underflow)" in page
    assert "Nothing is trained" in page
    assert "collapsed" not in page.split("What failed or collapsed")[0]
    summary = (root / "summary.md").read_text(encoding="utf-8")
    assert "looked at on the 4 test images; nothing was trained or scored" in summary
    assert "scored on" not in page + summary
    assert {p.stem for p in (root / "figures").glob("*.svg")} == {
        "first-per-last-a",
        "centre-per-last-a",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "study x --dataset em=/a/folder/em --out /another/s/long",
            "study x --dataset em=em --out long",
        ),
        ("python ../there/mine.yaml", "python mine.yaml"),
        ("~/studies/mine/", "mine"),
        ("a 1/2 and net.x=[1, 2]; add/none", "a 1/2 and net.x=[1, 2]; add/none"),
    ],
)
def test_folders_are_shown_by_their_last_names(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_every_paper_is_found_by_its_name_and_year() -> None:
    for (name, year), reference in PAPERS.items():
        assert reference in references_in(f"as {name} ({year}) found")
        assert reference in references_in(f"as was found ({name} {year})")
    assert references_in("Davison and Hinkley 1997") == [PAPERS["Davison", "1997"]]
    assert references_in("Holmes 1979, the Li of 2018. Nobody (2015)") == []


def test_no_two_arms_look_alike() -> None:
    levels = {f: {f"{f}{i}": {f"net.{f}": i} for i in range(n)} for f, n in (("p", 3), ("q", 4))}
    crossed = StudyConfig(name="n", question="?", factors=levels, reference="p0+q0", steps=1)
    named = StudyConfig(
        name="n",
        question="?",
        arms={f"a{i}": {"net.x": i} for i in range(20)},
        reference="a3",
        steps=1,
    )
    for config in (crossed, named):
        looks = arm_looks(config)
        assert len(set(looks.values())) == len(config.all_arms)
    assert {looks.colour for arm, looks in arm_looks(crossed).items() if "p1" in arm} == {"#0072b2"}
