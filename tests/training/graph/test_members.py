"""Runs that answer together: what must agree, which images are unseen, and the file they make."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from contract.errors import RequestInvalid
from contract.model import Model
from contract.spec import Normalising, SegmentClass, TrainingData
from training.__main__ import main
from training.data.split import Split
from training.fit.checkpoint import CHECKPOINT_KEY, Description, net_fields
from training.fit.folds import FoldsDirectory
from training.graph.members import (
    MembersDisagree,
    allowed_mirrors,
    common_split,
    load_members,
    unseen_by,
)
from training.nets.config import NetConfig


def seen(hashes: tuple[str, ...], height: tuple[float, float, float]) -> TrainingData:
    return TrainingData(
        images=len(hashes),
        height_min_median_max=height,
        width_min_median_max=(10, 20, 30),
        intensity_p01_p50_p99=((0, 100, 200),),
        class_pixel_fraction=(0.75, 0.25),
        image_hashes=hashes,
    )


def described(**changes: Any) -> Description:
    fields: dict[str, Any] = {
        "net": net_fields(NetConfig(widths=(4, 6))),
        "channels": 1,
        "classes": (
            SegmentClass(name="background", colour=(0, 0, 0)),
            SegmentClass(name="cell", colour=(255, 0, 0)),
        ),
        "task": "multiclass",
        "normalising": Normalising(kind="image"),
        "working_size": None,
        "patch": (32, 32),
        "training_data": None,
        "seed": 0,
    }
    return Description.model_validate({**fields, **changes})


def checkpoint(path: Path, description: Description, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    weights = description.build_graph().state_dict()
    torch.save(
        {
            CHECKPOINT_KEY: description.model_dump(mode="json"),
            "state_dict": {f"graph.{name}": tensor for name, tensor in weights.items()},
        },
        path,
    )
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": 3}, "has channels 3, .* has 1"),
        ({"working_size": (64, 64)}, "has working size"),
        ({"net": net_fields(NetConfig(widths=(4, 8)))}, "has net settings"),
        (
            {
                "classes": (
                    SegmentClass(name="background", colour=(0, 0, 0)),
                    SegmentClass(name="nucleus", colour=(255, 0, 0)),
                )
            },
            "has classes .*nucleus.* has .*cell",
        ),
        ({"normalising": Normalising(kind="fixed", mean=(1.0,), std=(2.0,))}, "has normalising"),
    ],
    ids=["channels", "working size", "net", "classes", "normalising"],
)
def test_runs_that_differ_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    first = checkpoint(tmp_path / "a.ckpt", described())
    other = checkpoint(tmp_path / "b.ckpt", described(**changes))
    with pytest.raises(MembersDisagree, match=words):
        load_members([first, other])


def test_fixed_folds_are_told_what_to_do(tmp_path: Path) -> None:
    paths = [
        checkpoint(
            tmp_path / f"{mean}.ckpt",
            described(normalising=Normalising(kind="fixed", mean=(mean,), std=(2.0,))),
        )
        for mean in (1.0, 1.5)
    ]
    with pytest.raises(MembersDisagree, match="one --data\\.split_file"):
        load_members(paths)


def test_the_training_images_of_all_members_are_known(tmp_path: Path) -> None:
    paths = [
        checkpoint(tmp_path / "a.ckpt", described(training_data=seen(("1", "2"), (5, 10, 20)))),
        checkpoint(tmp_path / "b.ckpt", described(training_data=seen(("2", "3"), (7, 14, 40)))),
    ]
    together = load_members(paths).description.training_data
    assert together is not None
    assert together.image_hashes == ("1", "2", "3")
    assert together.images == 3
    assert together.height_min_median_max == pytest.approx((5, 12, 40))
    assert together.class_pixel_fraction == pytest.approx((0.75, 0.25))


def split(train: str, val: str, test: str) -> Split:
    return Split(tuple(train), tuple(val), tuple(test), kind="random", seed=0)


def test_folds_have_no_validation_image_in_common() -> None:
    folds = [split("cdef", "ab", "xy"), split("abef", "cd", "xy"), split("abcd", "ef", "xy")]
    together = common_split(folds)
    assert set(together.train) == set("abcdef")
    assert (together.val, set(together.test)) == ((), {"x", "y"})
    assert [unseen_by(folds, stem) for stem in "ace"] == [{0}, {1}, {2}]


def test_seeds_on_one_split_keep_its_parts() -> None:
    same = [split("abcd", "ef", "xy")] * 3
    assert common_split(same) == same[0]
    assert unseen_by(same, "e") == {0, 1, 2}


def test_an_image_that_trained_any_member_is_held_out_from_none() -> None:
    together = common_split([split("ab", "c", "xy"), split("ax", "c", "by")])
    assert together.test == ("y",)
    assert together.val == ("c",)


@pytest.mark.parametrize(
    ("augments", "expected"),
    [
        ([None], ("horizontal", "vertical", "both")),
        ([{"kind": "photo"}], ("horizontal",)),
        ([{"kind": "microscopy"}, {"kind": "photo"}], ("horizontal",)),
        ([{"flip_horizontal": False}], ("vertical",)),
    ],
)
def test_only_mirrorings_of_the_training_are_allowed(
    augments: list[dict[str, Any] | None], expected: tuple[str, ...]
) -> None:
    assert allowed_mirrors([{"augment": one} for one in augments], described()) == expected


@pytest.mark.parametrize("augment", [{"kind": "none"}, {"kind": "xray"}, {"strength": 0.0}])
def test_a_net_that_met_no_mirrored_image_is_not_shown_any(augment: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid, match="leave --mirror out"):
        allowed_mirrors([{"augment": augment}], described())


def test_sided_classes_are_not_mirrored() -> None:
    sided = described(
        classes=tuple(
            SegmentClass(name=name, colour=(0, 0, 0)) for name in ("background", "left lung")
        )
    )
    with pytest.raises(RequestInvalid, match="side"):
        allowed_mirrors([{"augment": {"kind": "microscopy"}}], sided)


@pytest.mark.slow
def test_the_folder_of_two_folds_becomes_one_file_that_answers_their_mean(
    folds: FoldsDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to, tune = tmp_path / "models", "--tune=temperature,thresholds"
    int8 = ("--precision=int8", "--max-dice-loss=0.2")  # after one epoch the nets are in doubt
    assert (
        main(["export", str(folds.root), "--name=both", f"--to={to}", "--mirror", tune, *int8]) == 0
    )
    folder = to / "both" / "1"
    files = ["card.md", "model.int8.onnx", "model.onnx", "reliability.png"]
    assert sorted(p.name for p in folder.iterdir()) == files
    model = Model.open(folder / "model.onnx", device="cpu")  # proves the golden sample
    # No image validates both folds, so the test images, which trained neither, judge int8.
    variant = Model.open(folder / "model.int8.onnx", device="cpu")
    assert "| model.int8.onnx | " in (folder / "card.md").read_text()
    judged = {m.class_name: m.mean for m in model.spec.metrics if m.metric == "dice"}
    found = {m.class_name: m.mean for m in variant.spec.metrics if m.metric == "dice"}
    printed = capsys.readouterr().out
    root = re.search(r"next: .* --data\.root (\S+) --split", printed)
    assert root is not None
    assert (Path(root[1]) / "images").is_dir()  # the line can be typed as it stands
    said = re.search(r"model\.int8.*: test Dice (\S+), (\S+) lost", printed)
    assert said is not None
    lost = judged["cell"] - found["cell"]
    assert [float(word) for word in said.groups()] == pytest.approx([found["cell"], lost], abs=2e-4)
    same = ("members", "mirrors", "calibration", "thresholds_prob")
    assert [getattr(variant.spec, f) for f in same] == [getattr(model.spec, f) for f in same]
    spec = model.spec
    assert (spec.members, spec.mirrors) == (2, ("horizontal",))
    assert {metric.part for metric in spec.metrics} == {"test"}
    assert spec.calibration is not None
    assert spec.calibration.nll_after <= spec.calibration.nll_before
    members = load_members([folds.run(k).checkpoint("best") for k in range(2)])
    image = np.random.default_rng(0).uniform(0, 255, (1, 1, 41, 33)).astype(np.float32)
    outside = []
    for index in range(2):
        alone = members.graph(only=[index])
        for axes in ((), (3,)):
            with torch.inference_mode():
                outside.append(alone(torch.from_numpy(image).flip(axes))[1].flip(axes).numpy())
    scaled = np.mean(outside, axis=0) ** (1 / spec.calibration.temperature)
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    plain = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    answer = plain.run(["probabilities"], {"image": image})[0]
    np.testing.assert_allclose(answer, expected, atol=1e-4)
