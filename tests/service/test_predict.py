"""``python -m service predict``: every image its answer or its reason, and on where it stopped."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.predict import main


@pytest.fixture
def images(tmp_path: Path, make_pixels: Any, encode_png: Any) -> Path:
    """Four images in two folders, one of them broken."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for place, name in enumerate(("a.png", "b.png", "deep/a.png")):
        (folder / name).write_bytes(encode_png(make_pixels(20, 24 + place, seed=place)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_in_this_process_and_through_a_service_the_answers_are_the_same(
    images: Path, tmp_path: Path, models: Path, service: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    to_run = [str(images), "--model", "grey", "--out"]
    assert main([*to_run, str(here), "--models", str(models), "--device", "cpu"]) == 1
    assert main([*to_run, str(there), "--url", service.address]) == 1
    for out in (here, there):
        found = {str(path.relative_to(out)) for path in out.rglob("*.png")}
        assert found == {"a.png", "b.png", "deep/a.png"}
        (failure,) = rows(out / "failures.csv")
        assert failure["image"].endswith("broken.png")
        assert failure["reason"]
        made = rows(out / "predictions.csv")
        assert {row["output"] for row in made} == found
        assert {(row["model"], row["version"]) for row in made} == {("grey", "1")}
    for name in ("a.png", "b.png", "deep/a.png"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert "4/4 images, 1 without an answer" in capsys.readouterr().err


def test_it_goes_on_where_it_stopped(images: Path, tmp_path: Path, models: Path) -> None:
    (images / "broken.png").unlink()
    out = tmp_path / "out"
    options = ["--model", "grey", "--out", str(out), "--models", str(models), "--device", "cpu"]
    assert main([str(images / "a.png"), *options]) == 0
    (out / "a.png").write_bytes(b"kept")
    # A run that was killed in the middle of a line.
    with (out / "predictions.csv").open("a") as file:
        file.write("images/b.png,b.p")
    assert main([str(images), *options]) == 0
    assert (out / "a.png").read_bytes() == b"kept"
    assert len(rows(out / "predictions.csv")) == 3
    assert rows(out / "failures.csv") == []
    assert main([str(images), *options, "--overwrite"]) == 0
    assert (out / "a.png").read_bytes() != b"kept"


def test_answers_of_two_models_do_not_meet_in_one_folder(
    images: Path, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--models", str(models), "--device", "cpu"]
    assert main([str(images / "a.png"), "--model", "grey", *out]) == 0
    assert main([str(images), "--model", "dial", *out]) == 2
    assert "another model file" in capsys.readouterr().err


def test_answers_in_two_formats_do_not_pass_for_each_other(
    images: Path, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--model", "grey", "--out", str(out), "--models", str(models), "--device", "cpu"]
    given = [str(images / "a.png"), *options]
    assert main([*given, "--format", "rle"]) == 0
    (row,) = rows(out / "predictions.csv")
    assert (row["output"], row["format"]) == ("a.npz", "rle")
    with np.load(out / "a.npz") as rle:
        assert rle["lengths"].sum() == 20 * 24
    assert main([*given, "--format", "bits"]) == 2
    assert "holds answers in rle, now bits is asked for" in capsys.readouterr().err
    assert main([*given, "--format", "bits", "--overwrite"]) == 0
    with np.load(out / "a.npz") as bits:
        assert int(bits["width"]) == 24


def test_an_answer_never_takes_an_images_place(
    images: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (images / "a.png").read_bytes()
    given = [str(images), "--model", "grey", "--out", str(images), "--models", str(models)]
    assert main([*given, "--overwrite", "--device", "cpu"]) == 2
    assert "would take the place of" in capsys.readouterr().err
    assert (images / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "nowhere"}, "there is no model 'nowhere'"),
        ({"model": "rubbish"}, "cannot be used"),
        ({"model": "layers"}, "may overlap"),
        ({"images": "nowhere"}, "is not there"),
        ({"images": "empty"}, "holds no image"),
        ({"url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_what_cannot_begin_is_said_in_one_line(
    tmp_path: Path,
    images: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    source = tmp_path / changed.get("images", "images")
    given = [str(source), "--model", changed.get("model", "grey"), "--out", str(tmp_path / "out")]
    given += ["--url", changed["url"]] if "url" in changed else ["--models", str(models)]
    assert main([*given, "--device", "cpu"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("predict: ")


def test_two_images_that_would_share_an_answer_are_named(
    tmp_path: Path, images: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a.bmp").write_bytes(b"BM")
    given = [str(images), "--model", "grey", "--out", str(tmp_path / "out")]
    assert main([*given, "--models", str(models)]) == 2
    said = capsys.readouterr().err
    assert "a.bmp" in said
    assert "a.png" in said
    assert not (tmp_path / "out").exists()
