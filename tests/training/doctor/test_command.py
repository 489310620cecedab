"""The command as it is called: what it prints, writes and returns."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from training.__main__ import main
from training.data.findings import Kind
from training.data.folder import open_folder


@pytest.fixture
def doctor(tmp_path, capsys):
    """Run the command; return its exit code and what it printed."""

    def run(root: Path, *options: str) -> tuple[int, str]:
        code = main(["doctor", str(root), "--out", str(tmp_path / "out"), *options])
        return code, capsys.readouterr().out

    return run


def test_a_clean_set(clean_set, doctor, tmp_path):
    code, said = doctor(clean_set, "--strict")
    assert code == 0
    assert "Clean: fit takes this data set." in said
    assert re.search(r"size, H x W px +72 x 96, all the same", said)
    assert re.search(r"  cell +\d+\.\d% of the pixels, in 10 masks; \d", said)
    record = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert record["clean"] is True
    assert record["findings"] == []
    assert record["profile"]["images"] == 10
    assert record["images"]["height_px"] == [72, 72, 72]


def test_what_fit_and_export_would_refuse_later_is_told_now(clean_set, doctor, tmp_path):
    root = tmp_path / "few"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for path in sorted((clean_set / folder).iterdir())[:2]:
            (root / folder / path.name).symlink_to(path)
    stems = [path.stem for path in sorted((root / "images").iterdir())]
    (root / "items.csv").write_text(f"stem,mm\n{stems[0]},0.5\n{stems[1]},0\n")
    (root / "dataset.yaml").write_text("table: items.csv\nspacing_columns: [mm]\n")
    code, said = doctor(root)
    assert code == 1
    assert "2 image(s) cannot be split into 3 parts" in said
    assert f"no spacing of {stems[1]!r}, it has '0, 0'" in said
    assert "1 fault(s): fit refuses this data set. 1 warning(s)" in said


def test_links_to_files_that_were_not_fetched_are_not_passed_over(broken, doctor):
    for folder in ("images", "masks"):
        file = sorted((broken / folder).iterdir())[0]
        file.unlink()
        file.symlink_to("/nowhere/it.png")
    code, said = doctor(broken)
    assert code == 1
    assert "unreadable image" in said
    assert "unreadable mask" in said
    assert "2 fault(s)" in said


def test_a_path_that_cannot_be_written_ends_in_a_line(clean_set, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert main(["doctor", str(clean_set), "--out", str(file)]) == 1
    assert f"{file}: File exists; give another path" in capsys.readouterr().err
    assert main(["doctor", str(clean_set), "--out", str(file / "deeper")]) == 1
    assert "Not a directory" in capsys.readouterr().err


def test_faults_warnings_and_strict(broken, doctor, read, save):
    path = sorted((broken / "masks").iterdir())[0]
    save(path, read(path) * 0 + 1)
    assert doctor(broken)[0] == 0
    code, said = doctor(broken, "--strict")
    assert code == 1
    assert "warning: masks/phantom0000.png: a mask of one class all over" in said
    path.unlink()
    code, said = doctor(broken)
    assert code == 1
    assert "fault: images/phantom0000.png: an image without a mask" in said
    assert "1 fault(s): fit refuses this data set." in said


def test_write_spec_makes_fit_take_it(broken, doctor, read, save, tmp_path):
    for path in (broken / "masks").iterdir():
        save(path, read(path) * 255)
    assert doctor(broken)[0] == 1
    spec = broken / "dataset.yaml"
    code, said = doctor(broken, "--write-spec", str(spec))
    assert code == 0
    assert f"python -m training fit --data.root {broken}\n" in said
    assert len(open_folder(broken, progress=False).cases) == 10
    code, said = doctor(broken)
    assert code == 0
    assert "Clean" in said


def test_write_spec_tells_what_it_cannot_mend(broken, doctor, read, save, tmp_path):
    for path in (broken / "masks").iterdir():
        save(path, read(path) * 255)
    (broken / "images" / "phantom0003.png").write_text("no pixels")
    spec = tmp_path / "new.yaml"
    code, said = doctor(broken, "--write-spec", str(spec))
    assert code == 1
    assert "What it does not mend, 1 fault(s):" in said
    assert said.count("images/phantom0003.png: unreadable image") == 2


def test_write_spec_overwrites_nothing(clean_set, broken, doctor, read, save, capsys):
    assert main(["doctor", str(clean_set), "--out", str(broken), "--write-spec", "x.yaml"]) == 1
    assert "no mask is refused for its values" in capsys.readouterr().err
    for path in (broken / "masks").iterdir():
        save(path, read(path) * 255)
    taken = broken / "taken.yaml"
    taken.write_text("licence: mine")
    assert main(["doctor", str(broken), "--out", str(broken), "--write-spec", str(taken)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert taken.read_text() == "licence: mine"


def test_the_page_stands_alone(broken, doctor, tmp_path, read, save):
    for index, path in enumerate(sorted((broken / "masks").iterdir())):
        save(path, read(path) * (255 if index else 0))
    (broken / "images" / "phantom0003.png").write_text("no pixels")
    doctor(broken)
    page = (tmp_path / "out" / "doctor.html").read_text()
    assert page.count('<img alt="') == page.count('src="data:image/jpeg;base64,') > 8
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.search(r"url\(|@import|https?:", page)
    for kind in ("mask-0-255", "unreadable-image"):
        assert f"fault, {kind}</span>" in page
    assert "phantom0003: unreadable" in page


def test_names_from_files_are_escaped(broken, doctor, tmp_path):
    for folder in ("images", "masks"):
        path = broken / folder / "phantom0000.png"
        path.rename(broken / folder / "<b>&.png")
    doctor(broken)
    page = (tmp_path / "out" / "doctor.html").read_text()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page


def test_no_such_folder_is_one_line(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "absent"), "--out", str(tmp_path)]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_the_guide_explains_every_kind(repository_root):
    guide = (repository_root / "docs" / "guide" / "doctor.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (?:fault|warning|note)", guide, re.MULTILINE)
    assert sorted(set(rows)) == sorted(get_args(Kind))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "levels", "mapped"),
    [
        ("em_membrane_isbi2012", [[0], [255]], {255: 1}),
        ("wbc_a_tecom", [[0], [128], [255]], {128: 1, 255: 2}),
    ],
)
def test_original_masks_of_real_sets(shared_data, tmp_path, doctor, name, levels, mapped):
    root = tmp_path / name
    root.mkdir()
    (root / "images").symlink_to(shared_data / name / "images")
    (root / "masks").symlink_to(shared_data / name / "masks_original")
    assert doctor(root, "--write-spec", str(root / "dataset.yaml"))[0] == 0
    record = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert record["coding"]["kind"] == "values"
    assert record["coding"]["levels"] == levels
    assert open_folder(root, progress=False).spec.mask_map == mapped


@pytest.mark.shared
def test_real_sets_that_are_clean(shared_data, doctor, tmp_path):
    for name in ("em_membrane_isbi2012", "xray_chest_covid"):
        code, said = doctor(shared_data / name, "--strict")
        assert code == 0, said


@pytest.mark.shared
def test_cells_that_were_photographed_twice(shared_data, doctor, tmp_path):
    doctor(shared_data / "wbc_a_tecom")
    record = json.loads((tmp_path / "out" / "doctor.json").read_text())
    (group,) = record["findings"]
    assert group["kind"] == "near-duplicate"
    pairs = [(f["file"], *f["others"]) for f in group["files"]]
    assert pairs == [
        ("images/158.png", "images/157.png"),
        ("images/171.png", "images/166.png"),
        ("images/169.png", "images/167.png"),
    ]
