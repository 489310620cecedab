"""A study goes on with the same images wherever they lie, and with no others."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.study.cells import read_cell, read_outcome
from training.study.conduct import Conducted, Place, conduct
from training.study.config import StudyConfig, StudyError
from training.study.run_cell import run_cell

SPEC = "classes: [{name: background}, {name: nucleus}]\nmask_map: {255: 1}\n"


def conducted_with_spec(
    study_of: Callable[..., StudyConfig], spec: str, root: Path, **changed: Any
) -> Conducted:
    base = study_of().base | {"data.spec": spec}
    return conduct(
        study_of(base=base, arms={"all": {}}, seeds=[0], learning_rates=[0.01], **changed),
        root,
        Place(),
    )


@pytest.fixture(scope="module")
def begun_once(
    study_of: Callable[..., StudyConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with a checkout ``one``, whose spec.yaml a study beside it was run with."""
    parent = tmp_path_factory.mktemp("kept")
    (parent / "one").mkdir()
    (parent / "one" / "spec.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(parent / "one")
        assert not conducted_with_spec(study_of, "spec.yaml", parent / "study").failed
    return parent


@pytest.fixture
def begun(begun_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it; the working folder is the checkout's."""
    shutil.copytree(begun_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "one")
    return tmp_path


def test_the_same_spec_in_another_checkout_is_the_same_study(
    begun: Path, study_of: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = next((begun / "study" / "cells").rglob("outcome.json"))
    written_ns = outcome.stat().st_mtime_ns
    (begun / "one").rename(begun / "other")
    monkeypatch.chdir(begun / "other")

    assert not conducted_with_spec(study_of, "spec.yaml", begun / "study").failed

    assert outcome.stat().st_mtime_ns == written_ns


def test_a_study_that_was_moved_alone_has_its_spec_with_it(
    begun: Path, study_of: Callable[..., StudyConfig]
) -> None:
    shutil.rmtree(begun / "one")
    moved = (begun / "study").rename(begun / "moved")
    folder = next((moved / "cells").glob("*/*/*"))
    (folder / "outcome.json").unlink()

    run_cell(folder)

    assert read_outcome(folder) is not None
    assert read_cell(folder).settings["data.spec"] == {
        "classes": [{"name": "background"}, {"name": "nucleus"}],
        "mask_map": {"255": 1},
    }


def test_another_content_of_the_spec_is_refused(
    begun: Path, study_of: Callable[..., StudyConfig]
) -> None:
    (begun / "one" / "spec.yaml").write_text(SPEC.replace("nucleus", "cell"))

    with pytest.raises(StudyError, match=r"1 changed \(dataset\.yaml\)"):
        conducted_with_spec(study_of, "spec.yaml", begun / "study")
    (begun / "study" / "files" / "ph.json").unlink()
    with pytest.raises(StudyError, match=r"data\.spec differ"):
        conducted_with_spec(study_of, "spec.yaml", begun / "study")


def test_cells_that_kept_the_path_of_the_spec_go_on(
    begun: Path, study_of: Callable[..., StudyConfig]
) -> None:
    kept = begun / "one" / "spec.yaml"
    cell = next((begun / "study" / "cells").rglob("cell.yaml"))
    content = yaml.safe_load(cell.read_text())
    content["settings"]["data.spec"] = str(kept)
    old = yaml.safe_dump(content, sort_keys=False)
    cell.write_text(old)
    outcome = (cell.parent / "outcome.json").read_bytes()
    (begun / "spec.yaml").write_text(SPEC)

    kept.rename(begun / "elsewhere.yaml")
    with pytest.raises(StudyError, match=f"it was {kept}, where no file is now; put it back"):
        conducted_with_spec(study_of, "../spec.yaml", begun / "study")
    kept.write_text(SPEC.replace("255", "128"))
    with pytest.raises(StudyError, match=r"data\.spec differ"):
        conducted_with_spec(study_of, "../spec.yaml", begun / "study")
    kept.write_text(SPEC)
    conducted_with_spec(study_of, "../spec.yaml", begun / "study")

    assert yaml.safe_load(cell.read_text())["settings"]["data.spec"]["mask_map"] == {"255": 1}
    assert (cell.parent / "outcome.json").read_bytes() == outcome


def test_images_may_move_and_must_be_the_same(
    ran_study: Any, study_of: Callable[..., StudyConfig], few_phantoms: Path, tmp_path: Path
) -> None:
    root, images = tmp_path / "study", tmp_path / "moved-images"
    shutil.copytree(ran_study.root, root)
    shutil.copytree(few_phantoms, images)
    study = study_of(datasets={"ph": {"root": str(images)}}, seeds=[0, 1, 2])

    assert not conduct(study, root, Place()).failed

    one, other = sorted((images / "images").iterdir())[:2]
    shutil.copyfile(one, other)
    mask = next(path for path in (images / "masks").iterdir() if path.stem == one.stem)
    shutil.copyfile(one, one.with_stem("new"))
    shutil.copyfile(mask, mask.with_stem("new"))
    with pytest.raises(StudyError, match=r"data set ph in .*: of 17 files 2 added, 1 changed"):
        conduct(study, root, Place())
    cell = replace(read_cell(ran_study.conducted.reported[0].folder(root)), seed=7)
    folder = cell.folder(root)
    shutil.copytree(ran_study.conducted.reported[0].folder(root), folder)
    (folder / "outcome.json").unlink()
    text = (folder / "cell.yaml").read_text()
    (folder / "cell.yaml").write_text(text.replace(str(few_phantoms), str(images)))
    run_cell(folder)
    assert "2 added, 1 changed" in (folder / "failed.txt").read_text()


def test_a_study_of_another_name_leaves_nothing_in_the_folder(
    ran_study: Any, study_of: Callable[..., StudyConfig], few_phantoms: Path, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(ran_study.root, root)
    with pytest.raises(StudyError, match="holds the study 'small'"):
        conduct(study_of(name="x", datasets={"other": {"root": str(few_phantoms)}}), root, Place())
    assert not (root / "splits" / "other.json").exists()
