import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.fit.loss_terms import Task
from training.fit.losses import KINDS, LossConfig, LossKind, SegmentationLoss, build_loss

IGNORE = 255
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_TASK = pytest.mark.parametrize("task", ["multiclass", "multilabel"])


def make(
    kind: LossKind = "dice_ce", *, task: Task = "multiclass", classes: int = 3, **fields
) -> SegmentationLoss:
    return build_loss(LossConfig(kind, **fields), task=task, classes=classes)


def sample(task: Task = "multiclass", *, seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Logits [B, 3, 6, 5] that take gradients, and a uint8 target without ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, 6, 5, generator=generator, requires_grad=True)
    shape, top = ((batch, 6, 5), 3) if task == "multiclass" else ((batch, 3, 6, 5), 2)
    return logits, torch.randint(0, top, shape, generator=generator, dtype=torch.uint8)


def perfect(target: Tensor, task: Task, *, sure: float = 40.0) -> Tensor:
    one_hot = F.one_hot(target.long(), 3).movedim(-1, 1) if task == "multiclass" else target
    return (one_hot.float() * 2 - 1) * sure


# What a loss must be


@EVERY_KIND
@EVERY_TASK
def test_the_truth_costs_nothing_and_its_opposite_much(kind: LossKind, task: Task) -> None:
    _, target = sample(task)
    loss = make(kind, task=task)
    assert loss(perfect(target, task), target).item() == pytest.approx(0.0, abs=1e-6)
    wrong = (target + 1) % 3 if task == "multiclass" else 1 - target
    assert loss(perfect(wrong, task), target).item() > 0.5


@EVERY_KIND
@EVERY_TASK
def test_a_step_down_the_slope_lowers_the_loss(kind: LossKind, task: Task) -> None:
    logits, target = sample(task)
    loss = make(kind, task=task)
    before = loss(logits, target)
    before.backward()
    assert logits.grad is not None
    after = loss(logits.detach() - 0.1 * logits.grad, target)
    assert after < before


@EVERY_KIND
@EVERY_TASK
def test_the_kind_of_integer_does_not_matter(kind: LossKind, task: Task) -> None:
    logits, target = sample(task)
    loss = make(kind, task=task)
    assert torch.equal(loss(logits, target), loss(logits, target.long()))


# Ignored pixels


@EVERY_KIND
@EVERY_TASK
def test_ignored_pixels_have_a_gradient_of_exactly_zero(kind: LossKind, task: Task) -> None:
    logits, target = sample(task)
    target[..., :2, :] = IGNORE
    make(kind, task=task)(logits, target).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, :, :2], torch.zeros(2, 3, 2, 5))
    assert (logits.grad[:, :, 2:] != 0).all()


@EVERY_KIND
@EVERY_TASK
def test_ignored_pixels_might_as_well_not_be_there(kind: LossKind, task: Task) -> None:
    logits, target = sample(task)
    loss = make(kind, task=task, class_weights=(1.0, 2.0, 3.0))
    cut = loss(logits[:, :, 2:], target[..., 2:, :])
    target[..., :2, :] = IGNORE
    torch.testing.assert_close(loss(logits, target), cut)


@EVERY_KIND
@EVERY_TASK
def test_a_batch_ignored_throughout_costs_nothing(kind: LossKind, task: Task) -> None:
    logits, target = sample(task)
    loss = make(kind, task=task)(logits, torch.full_like(target, IGNORE))
    assert loss.item() == 0.0
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_ignore_none_counts_every_pixel() -> None:
    logits, target = sample()
    counting = build_loss(LossConfig(), task="multiclass", classes=3, ignore=None)
    torch.testing.assert_close(counting(logits, target), make()(logits, target))


# Empty patches


def false_positive_slope(loss: SegmentationLoss, target: Tensor) -> float:
    """Gradient on the first patch's foreground logits, where all is background."""
    assert not target[0].any()
    logits = torch.zeros(len(target), 2, *target.shape[1:])
    logits[:, 1] = 2.0
    logits.requires_grad_()
    loss(logits, target).backward()
    assert logits.grad is not None
    return logits.grad[0, 1].sum().item()


def test_false_positives_on_an_empty_patch_cost_as_they_do_elsewhere() -> None:
    target = torch.zeros(2, 32, 32, dtype=torch.uint8)
    target[1, 8:24, 8:24] = 1
    on_both = false_positive_slope(make("dice", classes=2), target)
    assert on_both > 0
    # The same pixels in one patch: a pooled Dice does not know where a patch ends.
    joined = torch.zeros(1, 2, 64, 32)
    joined[:, 1] = 2.0
    joined.requires_grad_()
    make("dice", classes=2)(joined, target.reshape(1, 64, 32)).backward()
    assert joined.grad is not None
    assert on_both == pytest.approx(joined.grad[0, 1, :32].sum().item())


def test_a_batch_without_foreground_still_has_a_slope() -> None:
    target = torch.zeros(2, 32, 32, dtype=torch.uint8)
    dice = false_positive_slope(make("dice", classes=2), target)
    # d/dP of P / (P + 1), times dP/dlogit summed over the patch.
    p = torch.sigmoid(torch.tensor(2.0)).item()
    total = 2 * 32 * 32 * p
    assert dice == pytest.approx(32 * 32 * p * (1 - p) / (total + 1) ** 2, rel=1e-4)


def test_smp_dice_would_let_them_pass() -> None:
    from segmentation_models_pytorch.losses import DiceLoss

    logits = torch.zeros(2, 2, 8, 8, requires_grad=True)
    smp_dice = DiceLoss("multiclass", classes=[1])
    smp_dice(logits, torch.zeros(2, 8, 8, dtype=torch.long)).backward()
    assert logits.grad is not None
    assert not logits.grad.any()  # the trap that makes us write our own


# Against other implementations and closed forms


def test_cross_entropy_is_torchs() -> None:
    logits, target = sample()
    target[0, 0] = IGNORE
    weights = (0.5, 2.0, 1.0)
    expected = F.cross_entropy(
        logits, target.long(), weight=torch.tensor(weights), ignore_index=IGNORE
    )
    torch.testing.assert_close(make("ce", class_weights=weights)(logits, target), expected)


def test_binary_cross_entropy_is_torchs() -> None:
    logits, target = sample("multilabel")
    expected = F.binary_cross_entropy_with_logits(logits, target.float())
    torch.testing.assert_close(make("ce", task="multilabel")(logits, target), expected)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20))
def test_dice_of_sure_answers_is_the_counts(hits: int, over: int, missed: int) -> None:
    target = torch.tensor([1] * hits + [0] * over + [1] * missed + [0] * 5, dtype=torch.uint8)
    answer = torch.tensor([1] * hits + [1] * over + [0] * missed + [0] * 5)
    logits = (F.one_hot(answer, 2).float().T * 2 - 1)[None, :, None] * 50  # [1, 2, 1, n]
    loss = make("dice", classes=2, smooth_px=1.0)(logits, target[None, None])
    expected = 1 - (2 * hits + 1) / (2 * hits + over + missed + 1)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    tversky = make("tversky", classes=2, tversky_alpha=0.2, tversky_beta=0.9)(
        logits, target[None, None]
    )
    expected = 1 - (hits + 1) / (hits + 0.2 * over + 0.9 * missed + 1)
    assert tversky.item() == pytest.approx(expected, abs=1e-5)


@EVERY_TASK
def test_tversky_of_equal_costs_is_dice(task: Task) -> None:
    logits, target = sample(task)
    dice = make("dice", task=task, smooth_px=2.0)
    tversky = make("tversky", task=task, smooth_px=1.0, tversky_alpha=0.5, tversky_beta=0.5)
    torch.testing.assert_close(tversky(logits, target), dice(logits, target))


@EVERY_TASK
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_plays_down_by_the_power_of_what_is_missing(task: Task, gamma: float) -> None:
    logits, target = sample(task)
    if task == "multiclass":
        p = logits.softmax(1).gather(1, target.long()[:, None])
    else:
        p = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    loss = make("focal", task=task, focal_gamma=gamma)(logits, target)
    torch.testing.assert_close(loss, expected)


@EVERY_TASK
def test_focal_without_gamma_is_cross_entropy(task: Task) -> None:
    logits, target = sample(task)
    focal = make("focal", task=task, focal_gamma=0.0)
    assert torch.equal(focal(logits, target), make("ce", task=task)(logits, target))


def test_focal_has_a_finite_slope_where_nothing_is_missing() -> None:
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).requires_grad_()
    make("focal", classes=2, focal_gamma=0.5)(
        logits, torch.zeros(1, 1, 1, dtype=torch.uint8)
    ).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MONAI's and its dependencies' own
def test_monai_agrees_on_full_masks() -> None:
    from monai.losses import DiceLoss, FocalLoss, TverskyLoss

    for task, activation in (("multiclass", "softmax"), ("multilabel", "sigmoid")):
        logits, target = sample(task)
        one_hot = target if task == "multilabel" else F.one_hot(target.long(), 3).movedim(-1, 1)
        keys = {activation: True, "batch": True, "include_background": task == "multilabel"}
        smooth = {"smooth_nr": 1.0, "smooth_dr": 1.0}
        torch.testing.assert_close(
            make("dice", task=task)(logits, target), DiceLoss(**keys, **smooth)(logits, one_hot)
        )
        torch.testing.assert_close(
            make("tversky", task=task)(logits, target),
            TverskyLoss(**keys, **smooth, alpha=0.3, beta=0.7)(logits, one_hot),
        )
        focal = FocalLoss(gamma=2.0, use_softmax=task == "multiclass")(logits, one_hot)
        # MONAI's mean runs over the classes as well, of which a softmax has one that counts.
        torch.testing.assert_close(
            make("focal", task=task)(logits, target), focal * (3 if task == "multiclass" else 1)
        )


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_images_does_not_matter(seed: int) -> None:
    logits, target = sample(seed=seed, batch=3)
    loss = make()
    torch.testing.assert_close(loss(logits, target), loss(logits.flip(0), target.flip(0)))


# Weights, background, precision


def test_the_terms_add_up_with_their_weights() -> None:
    logits, target = sample()
    both = make("dice_ce", overlap_weight=0.25, pixel_weight=3.0)
    expected = 0.25 * make("dice")(logits, target) + 3.0 * make("ce")(logits, target)
    torch.testing.assert_close(both(logits, target), expected)


def test_the_background_counts_in_the_overlap_only_when_asked() -> None:
    logits, target = sample()
    without = make("dice")(logits, target)
    with_it = make("dice", include_background=True)(logits, target)
    p, y = logits.softmax(1)[:, 0].detach(), (target == 0).float()
    background = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    torch.testing.assert_close(3 * with_it, 2 * without + background)


def test_balanced_takes_the_weights_of_the_data_and_nothing_else_does() -> None:
    logits, target = sample()
    data_weights = torch.tensor([0.1, 1.0, 5.0])

    def loss(class_weights: tuple[float, ...] | str | None) -> Tensor:
        config = LossConfig("ce", class_weights=class_weights)
        return build_loss(config, task="multiclass", classes=3, class_weights=data_weights)(
            logits, target
        )

    assert torch.equal(loss("balanced"), loss((0.1, 1.0, 5.0)))
    assert torch.equal(loss(None), loss((1.0, 1.0, 1.0)))
    assert not torch.equal(loss("balanced"), loss(None))


@EVERY_KIND
def test_autocast_does_not_reach_the_sums(kind: LossKind) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 128, 128, generator=generator).bfloat16()
    target = torch.randint(0, 2, (2, 128, 128), generator=generator, dtype=torch.uint8)
    loss = make(kind, classes=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss(logits, target)
    assert under_autocast.dtype == torch.float32
    torch.testing.assert_close(under_autocast, loss(logits.float(), target))


def test_the_weights_move_with_the_module_and_stay_out_of_its_state() -> None:
    loss = make("ce", class_weights=(1.0, 2.0, 3.0))
    assert loss.state_dict() == {}
    assert [buffer.dtype for buffer in loss.double().buffers()] == [torch.float64]


# What is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "dicee"}, "kind must be one of dice_ce, dice"),
        ({"overlap_weight": 0.0}, "overlap_weight must be above 0, got 0.0"),
        ({"smooth_px": -1.0}, "smooth_px must be above 0"),
        ({"smooth_px": math.nan}, "smooth_px must be above 0"),
        ({"focal_gamma": -0.5}, "focal_gamma must be at least 0"),
        ({"tversky_alpha": 0.0, "tversky_beta": 0.0}, "no error would cost"),
        ({"class_weights": "inverse"}, "'balanced', numbers or null; got 'inverse'"),
        ({"class_weights": (1.0, -1.0)}, "0 or more"),
        ({"class_weights": (0.0, 0.0)}, "one of them above 0"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**fields)  # type: ignore[arg-type]


def test_weights_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="each of the 3 classes, got \\[2\\]"):
        make(class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="the data's weights were not given"):
        make(class_weights="balanced")
    with pytest.raises(ValueError, match="1 class has only background"):
        make(classes=1)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    logits, target = sample()
    with pytest.raises(ValueError, match=r"\[2, 3, 6, 5\] and target \[2, 5, 5\]"):
        make()(logits, target[:, 1:])
    with pytest.raises(ValueError, match=r"expected logits \[B, 4, H, W\]"):
        make(classes=4)(logits, target)
    with pytest.raises(ValueError, match="multilabel target"):
        make(task="multilabel")(logits, target)
