"""What the gate lets through and what not: closed form, and real files that differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ModelBroken
from contract.metrics import ClassScore, score_labels
from contract.model import Model
from contract.spec import Precision
from training.data.case import Case
from training.data.split import Split
from training.graph.gate import (
    VariantRefused,
    check_dice,
    check_sizes,
    dice_loss,
    judging_part,
)
from training.score.cases import ScoredCase

Build = Callable[..., Path]
RANGE = (0.0, 255.0)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Build) -> Model:
    path = tmp_path_factory.mktemp("gate") / "model.onnx"
    build_threshold_model(path, classes=("background", "large", "rare"))
    return Model.open(path, device="cpu", threads=1)


def scored(*dice: float) -> ScoredCase:
    """A case whose classes have these Dice, the background's first; NaN: empty on both sides."""
    scores = []
    for index, value in enumerate(dice):
        px = 0 if np.isnan(value) else 1000
        overlap = 0 if np.isnan(value) else round(value * px)
        scores.append(ClassScore(index, px, px, overlap))
    case = Case(stem="a", image=Path("a.png"), mask=Path("b.png"))
    return ScoredCase(case, 4, 4, tiled=False, scores=tuple(scores), labels=np.zeros((4, 4), "u1"))


def test_the_loss_is_that_of_the_class_that_loses_most(three_classes: Model) -> None:
    full = [scored(1.0, 0.9, 0.5), scored(1.0, 0.7, 0.7)]
    variant = [scored(0.0, 0.95, 0.4), scored(0.0, 0.75, 0.6)]
    # Classes: 0.8 -> 0.85 and 0.6 -> 0.5; the background does not count.
    assert dice_loss(three_classes, full, variant) == pytest.approx(0.1)
    assert dice_loss(three_classes, variant, full) == pytest.approx(0.05)


def test_empty_cases_and_classes_are_left_out_of_the_loss(three_classes: Model) -> None:
    nan = float("nan")
    full = [scored(1.0, 0.8, nan), scored(1.0, nan, nan)]
    assert dice_loss(three_classes, full, full) == 0.0
    # Found where there is nothing: Dice 0 joins the mean.
    assert dice_loss(
        three_classes, full, [scored(1, 0.8, nan), scored(1, 0.0, nan)]
    ) == pytest.approx(0.4)
    assert np.isnan(dice_loss(three_classes, [scored(1.0, nan, nan)], [scored(1.0, nan, nan)]))


@given(loss=st.floats(-1, 1), allowed=st.floats(-1, 1))
def test_exactly_a_loss_above_what_is_allowed_is_refused(loss: float, allowed: float) -> None:
    if loss <= allowed:
        check_dice("int8", loss, max_dice_loss=allowed)
    else:
        with pytest.raises(VariantRefused, match="--max-dice-loss"):
            check_dice("int8", loss, max_dice_loss=allowed)


@pytest.mark.parametrize(
    ("val", "test", "part"),
    [("ab", "xy", "validation"), ("ab", "", "validation"), ("", "xy", "test"), ("", "", None)],
)
def test_the_test_part_judges_only_where_no_image_validates_all_members(
    val: str, test: str, part: str | None
) -> None:
    split = Split(("t",), tuple(val), tuple(test), kind="random", seed=0)
    assert judging_part(split) == part


def test_a_loss_that_nobody_knows_is_refused() -> None:
    with pytest.raises(VariantRefused, match="no validation mask"):
        check_dice("int8", float("nan"), max_dice_loss=1.0)


def _as(model: Model, precision: Precision) -> Model:
    spec = model.spec.model_copy(update={"precision": precision})
    return Model(
        path=model.path,
        spec=spec,
        sha256=model.sha256,
        provider=model.provider,
        takes_statistics=model.takes_statistics,
        session=model.session,
    )


@pytest.fixture
def threshold(tmp_path: Path, build_threshold_model: Build) -> Callable[..., Model]:
    """A variant that calls a pixel bright from another intensity on."""

    def build(name: str, **options: object) -> Model:
        path = build_threshold_model(tmp_path / f"{name}.onnx", **options)
        return Model.open(path, device="cpu", threads=1, prove=False)

    return build


def test_a_file_passes_against_itself(threshold: Callable[..., Model]) -> None:
    model = threshold("model")
    assert check_sizes(_as(model, "fp16"), model, intensity_range=RANGE) == 0.0


def test_a_file_with_other_answers_is_refused_with_size_and_count(
    threshold: Callable[..., Model],
) -> None:
    full, other = threshold("model"), _as(threshold("model.int8", threshold=1.3), "int8")
    with pytest.raises(VariantRefused, match=r"model\.int8\.onnx .* \d+ of \d+ clear pixels at \d"):
        check_sizes(other, full, intensity_range=RANGE)


def test_a_slightly_different_file_passes_as_int8_and_not_as_fp16(
    threshold: Callable[..., Model],
) -> None:
    full, near = threshold("model"), threshold("model.near", threshold=0.94)
    sizes = [(250, 300)]
    share = check_sizes(_as(near, "int8"), full, intensity_range=RANGE, sizes=sizes)
    assert 0.001 < share <= 0.02
    with pytest.raises(VariantRefused, match=r"allowed are 0\.1%"):
        check_sizes(_as(near, "fp16"), full, intensity_range=RANGE, sizes=sizes)


def test_a_file_that_lost_its_optional_input_is_refused(threshold: Callable[..., Model]) -> None:
    full, without = threshold("model"), threshold("model.int8", with_statistics=False)
    with pytest.raises(VariantRefused, match="'statistics'"):
        check_sizes(_as(without, "int8"), full, intensity_range=RANGE)


def test_a_file_of_one_fixed_size_is_refused(threshold: Callable[..., Model]) -> None:
    full = threshold("model")
    with pytest.raises(ModelBroken):
        threshold("model.int8", break_interface="fixed size")
    assert full.spec.precision == "fp32"


def test_scores_of_the_gate_are_those_of_the_metrics(three_classes: Model) -> None:
    """The loss of real masks: half of the rare class is missed, Dice 1 -> 2/3."""
    truth = np.zeros((8, 8), np.uint8)
    truth[:4] = 1
    truth[6:, :4] = 2
    found = truth.copy()
    found[6, :4] = 0
    cases = [
        ScoredCase(
            case=scored(1.0).case,
            height_px=8,
            width_px=8,
            tiled=False,
            scores=tuple(score_labels(m, truth, task="multiclass", n_classes=3, ignore=255)),
            labels=m,
        )
        for m in (truth, found)
    ]
    assert dice_loss(three_classes, cases[:1], cases[1:]) == pytest.approx(1 / 3)
