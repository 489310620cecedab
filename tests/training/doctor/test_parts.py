"""A split file: what it tears apart and what its parts lack."""

import shutil

import numpy as np

from training.doctor.examination import examine

STEMS = [f"phantom{index:04d}" for index in range(10)]


def findings(root, split):
    return examine(root, split_path=split, progress=False).findings


def test_a_good_split_has_nothing(broken, write_split):
    assert findings(broken, write_split(STEMS[:6], STEMS[6:8], STEMS[8:])) == ()


def test_a_torn_group(broken, write_split):
    rows = [f"{stem},p{index // 3}" for index, stem in enumerate(STEMS)]
    (broken / "items.csv").write_text("\n".join(["stem,patient", *rows]))
    (broken / "dataset.yaml").write_text("table: items.csv\ngroup_column: patient")
    assert findings(broken, write_split(STEMS[:6], STEMS[6:9], STEMS[9:])) == ()
    (finding,) = findings(broken, write_split(STEMS[:7], STEMS[7:9], STEMS[9:]))
    assert (finding.severity, finding.kind) == ("warning", "torn-group")
    assert "group 'p2' (train: phantom0006; val: phantom0007, phantom0008)" in finding.detail


def test_many_torn_groups_are_told_of_one_file(broken, write_split):
    rows = [f"{stem},p{index // 2}" for index, stem in enumerate(STEMS)]
    (broken / "items.csv").write_text("\n".join(["stem,patient", *rows]))
    (broken / "dataset.yaml").write_text("table: items.csv\ngroup_column: patient")
    split = write_split(STEMS[::2], STEMS[1::4], STEMS[3::4])
    (group,) = examine(broken, split_path=split, progress=False).groups
    lines = group.lines(broken)
    assert lines[0] == f"{split}: a group in more than one part: scores will be too good, 5 times"
    assert lines[1] == "    group 'p0' (train: phantom0000; val: phantom0001)"


def test_a_part_without_a_class(three_classes, write_split, read, save):
    stems = STEMS[:6]
    for stem in stems[:4]:
        path = three_classes / "masks" / f"{stem}.png"
        save(path, np.minimum(read(path), 1))
    (finding,) = findings(three_classes, write_split(stems[:4], stems[4:5], stems[5:]))
    assert (finding.severity, finding.kind) == ("warning", "part-lacks-class")
    assert finding.found == (
        "class 'class 2' is in no mask of part 'train', so it cannot be learned"
    )


def test_copies_in_two_parts(broken, write_split):
    for folder in ("images", "masks"):
        shutil.copy(broken / folder / f"{STEMS[0]}.png", broken / folder / "copy.png")
    duplicate, leak = findings(broken, write_split(STEMS[:6], STEMS[6:8], [*STEMS[8:], "copy"]))
    assert duplicate.kind == "duplicate"
    assert (leak.severity, leak.kind) == ("warning", "duplicate-across-parts")
    together = findings(broken, write_split([*STEMS[:6], "copy"], STEMS[6:8], STEMS[8:]))
    assert [f.kind for f in together] == ["duplicate"]


def test_unused_images_are_a_note(broken, write_split):
    found = findings(broken, write_split(STEMS[:5], STEMS[6:8], STEMS[8:]))
    assert [(f.severity, f.kind, f.where.stem) for f in found] == [("note", "unused", STEMS[5])]


def test_a_split_of_another_set_is_a_fault(broken, write_split, tmp_path):
    (finding,) = findings(broken, write_split([*STEMS[:6], "nobody"], STEMS[6:8], STEMS[8:]))
    assert (finding.severity, finding.kind) == ("fault", "split-file")
    assert "nobody" in finding.detail
    (twice,) = findings(broken, write_split(STEMS[:6], STEMS[5:8], STEMS[8:]))
    assert "stand twice" in twice.detail
    (absent,) = findings(broken, tmp_path / "absent.json")
    assert "no such split file" in absent.detail
