"""Each rule in a case where its answer can be told by hand, and all of them on any profile."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import RequestInvalid
from training.data.config import DataConfig
from training.data.profile import ClassProfile, DataProfile
from training.data.recipe import AugmentConfig
from training.fit.config import LossConfig, OptimiserConfig
from training.nets.config import NetConfig
from training.plan.machine import Machine
from training.plan.rules import (
    LEAST_WIDTH_PX,
    PLANNED_SHARE,
    RULES,
    STEPS_CPU,
    Choice,
    Pace,
    plan,
)

MakeProfile = Callable[..., DataProfile]
MakeClass = Callable[..., ClassProfile]


def values(
    profile: DataProfile,
    machine: Machine,
    *,
    train: int = 70,
    val: int = 15,
    pace: Pace | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Return what was given and what was planned; ``__`` stands for the dot."""
    own = {name.replace("__", "."): value for name, value in given.items()}
    choices = plan(profile, machine, train_images=train, val_images=val, given=own, pace=pace)
    return {**own, **{choice.option: choice.value for choice in choices}}


def reason(profile: DataProfile, machine: Machine, option: str) -> str:
    choices = plan(profile, machine, train_images=70, val_images=15, given={})
    return next(choice.reason for choice in choices if choice.option == option)


def steps_of(chosen: dict[str, Any], train: int) -> int:
    batches = train * chosen["data.patches_per_image"] // chosen["data.batch_size"]
    limit = chosen.get("trainer.limit_train_batches")
    return chosen["trainer.max_epochs"] * (batches if limit is None else min(limit, batches))


# ---- what the net sees


def test_cells_are_cut_into_patches(make_profile: MakeProfile, cpu: Machine, gpu: Machine) -> None:
    on_cpu, on_gpu = values(make_profile(), cpu), values(make_profile(), gpu)
    assert on_cpu["data.patch"] == [192, 192]
    assert on_gpu["data.patch"] == [320, 320]
    assert "data.working_size" not in on_cpu
    assert on_cpu["net.widths"] == [16, 32, 64, 128, 256]
    assert on_gpu["net.widths"] == [32, 64, 128, 256, 512, 512]


@pytest.mark.parametrize(("side", "patch"), [(20, 32), (32, 32), (97, 128), (160, 160), (161, 160)])
def test_small_images_are_taken_whole(
    make_profile: MakeProfile, cpu: Machine, side: int, patch: int
) -> None:
    sides = (float(side), float(side), float(side))
    assert values(make_profile(height_px=sides, width_px=sides), cpu)["data.patch"] == [patch] * 2


def test_organs_are_seen_whole(
    make_profile: MakeProfile, make_class: MakeClass, cpu: Machine, gpu: Machine
) -> None:
    profile = make_profile(
        height_px=(400.0, 600.0, 900.0),
        width_px=(500.0, 800.0, 1000.0),
        classes=(make_class(width_px=150.0, pixel_fraction=0.2),),
        atlas_dice=0.77,
        atlas_dice_mirrored=0.22,
        atlas_dice_upended=0.65,
    )
    chosen = values(profile, cpu)
    assert chosen["data.working_size"] == [192, 256]
    assert "data.patch" not in chosen
    assert "data.foreground_fraction" not in chosen
    assert chosen["augment.kind"] == "xray"
    assert values(profile, gpu)["data.working_size"] == [384, 512]


def test_thin_structures_are_never_shrunk_away(
    make_profile: MakeProfile, make_class: MakeClass, cpu: Machine
) -> None:
    size = (2000.0, 2000.0, 2000.0)
    shrunk = 256 / 2000
    for width_px, whole in ((LEAST_WIDTH_PX / shrunk - 1, False), (LEAST_WIDTH_PX / shrunk, True)):
        profile = make_profile(
            height_px=size,
            width_px=size,
            atlas_dice=0.8,
            classes=(make_class(width_px=width_px), make_class(name="organ", width_px=500.0)),
        )
        assert ("data.working_size" in values(profile, cpu)) is whole


def test_symmetry_of_the_masks_decides_on_mirroring(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    def kind(mirrored: float, upended: float, atlas: float = 0.8) -> str:
        profile = make_profile(
            atlas_dice=atlas, atlas_dice_mirrored=mirrored, atlas_dice_upended=upended
        )
        return str(values(profile, cpu)["augment.kind"])

    assert kind(0.8, 0.8) == "microscopy"
    assert kind(0.8, 0.5) == "photo"
    assert kind(0.3, 0.8) == "xray"
    assert kind(0.1, 0.1, atlas=0.3) == "microscopy"  # place tells nothing, so nothing to keep


def test_hounsfield_units_keep_their_meaning(make_profile: MakeProfile, cpu: Machine) -> None:
    assert values(make_profile(lowest=-1024.0), cpu)["normalising"] == "fixed"
    assert values(make_profile(lowest=-3.0), cpu)["normalising"] == "image"


def test_neighbours_that_look_alike_are_split_in_blocks(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    stack = make_profile(neighbour_dice=0.7, stranger_dice=0.4)
    assert values(stack, cpu)["data.split"] == "block"
    assert "data.split" not in values(make_profile(), cpu)
    grouped = make_profile(neighbour_dice=0.7, stranger_dice=0.4, groups=9)
    assert "data.split" not in values(grouped, cpu)


# ---- batches


def test_memory_bounds_the_batch_and_small_batches_are_accumulated(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    assert values(make_profile(), cpu)["data.batch_size"] == 16
    small = Machine(cores=2, memory_bytes=1 << 29, gpu_memory_bytes=None, bf16=False)
    chosen = values(make_profile(), small)
    assert 1 <= chosen["data.batch_size"] < 8
    effective = chosen["data.batch_size"] * chosen["trainer.accumulate_grad_batches"]
    assert effective >= 8
    assert chosen["optimiser.lr"] == pytest.approx(
        3e-3 * min(1, math.sqrt(effective / 16)), abs=1e-5
    )


def test_precision_and_layout_follow_the_hardware(make_profile: MakeProfile) -> None:
    def chosen(*, gpu: bool, bf16: bool) -> tuple[object, object]:
        memory = 1 << 34 if gpu else None
        machine = Machine(cores=4, memory_bytes=1 << 34, gpu_memory_bytes=memory, bf16=bf16)
        planned = values(make_profile(), machine)
        return planned["trainer.precision"], planned.get("channels_last")

    assert chosen(gpu=False, bf16=True) == ("bf16-mixed", True)
    assert chosen(gpu=False, bf16=False) == ("32-true", True)
    assert chosen(gpu=True, bf16=True) == ("bf16-mixed", True)
    assert chosen(gpu=True, bf16=False) == ("32-true", None)


def test_who_counts_epochs_or_samples_gets_just_these(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    chosen = values(make_profile(), cpu, trainer__max_epochs=3, data__batch_size=4)
    assert chosen["data.patches_per_image"] == 1
    assert "trainer.check_val_every_n_epoch" not in chosen
    assert "trainer.accumulate_grad_batches" not in chosen


def test_tiny_sets_fill_a_batch(make_profile: MakeProfile, cpu: Machine) -> None:
    chosen = values(make_profile(images=5), cpu, train=3, val=1)
    assert 3 * chosen["data.patches_per_image"] >= chosen["data.batch_size"]
    assert steps_of(chosen, 3) >= 0.8 * STEPS_CPU[0]
    counted = values(make_profile(images=5), cpu, train=3, val=1, trainer__max_epochs=7)
    assert counted["data.patches_per_image"] == math.ceil(16 / 3)


def test_rare_classes_are_sought_and_weighed(
    make_profile: MakeProfile, make_class: MakeClass, cpu: Machine
) -> None:
    def of(fraction: float) -> dict[str, Any]:
        return values(make_profile(classes=(make_class(pixel_fraction=fraction),)), cpu)

    assert of(0.15)["data.foreground_fraction"] == 0.33
    assert of(0.15)["loss.class_weights"] is None
    assert of(0.01)["data.foreground_fraction"] == 0.5
    assert of(0.001)["loss.class_weights"] == "balanced"


def test_cache_holds_all_images_for_each_worker_if_memory_allows(
    make_profile: MakeProfile, gpu: Machine
) -> None:
    profile = make_profile(decoded_bytes=400_000_000)
    assert values(profile, gpu)["data.cache_mb"] == math.ceil(1.3 * 400 * 7)
    huge = make_profile(decoded_bytes=10**12)
    assert values(huge, gpu)["data.cache_mb"] == math.ceil(gpu.memory_bytes / 4 / 1e6)


def test_rare_classes_and_kinds_are_drawn_more_often(
    make_profile: MakeProfile, make_class: MakeClass, cpu: Machine
) -> None:
    balanced = make_profile(classes=(make_class(images=100), make_class(images=25)))
    assert values(balanced, cpu)["data.rare_share"] == 0
    rare = make_profile(classes=(make_class(images=100), make_class(name="mitosis", images=6)))
    assert values(rare, cpu)["data.rare_share"] == 0.25
    assert "mitosis is in 6 of 100 images" in reason(rare, cpu, "data.rare_share")
    odd = make_profile(odd_fraction=0.16, oddest_share=0.02)
    assert values(odd, cpu)["data.rare_share"] == 0.25
    assert "16 % of the images look unlike most" in reason(odd, cpu, "data.rare_share")
    one_bad_image = make_profile(odd_fraction=0.01, oddest_share=0.01)
    assert values(one_bad_image, cpu)["data.rare_share"] == 0


def test_large_images_are_drawn_more_often_where_sizes_differ(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    assert values(make_profile(), cpu)["data.area_power"] == 0
    mixed = make_profile(area_px=(256.0**2, 512.0 * 640, 1600.0**2))
    assert values(mixed, cpu)["data.area_power"] == 0.5
    assert "8 times the pixels of the median" in reason(mixed, cpu, "data.area_power")
    # A patch takes either as a whole: there is nothing of the larger that is never seen.
    small = make_profile(area_px=(40.0**2, 60.0**2, 150.0**2))
    assert values(small, cpu)["data.area_power"] == 0
    whole = values(mixed, cpu, data__working_size=[256, 256])
    assert "data.area_power" not in whole


# ---- how long


def test_a_short_time_limit_says_what_it_costs(make_profile: MakeProfile, cpu: Machine) -> None:
    def why(left_s: float) -> str:
        pace = Pace(step_s=1.0, samples=8, validation_s=0.0, left_s=left_s)
        known = {"data.batch_size": 8}
        choices = plan(make_profile(), cpu, train_images=70, val_images=15, given=known, pace=pace)
        return next(c.reason for c in choices if c.option == "trainer.max_epochs")

    unhurried = plan(
        make_profile(), cpu, train_images=70, val_images=15, given={"data.batch_size": 8}
    )
    total = steps_of({"data.batch_size": 8, **{c.option: c.value for c in unhurried}}, 70)
    told = re.search(r"without a limit it would be (\d+)$", why(60.0))
    assert told is not None
    assert int(told[1]) == pytest.approx(total, rel=0.1)  # whole epochs are trained
    assert "without a limit" not in why(36000.0)


@pytest.mark.parametrize("step_s", [0.05, 0.7, 12.0])
@pytest.mark.parametrize("validation_s", [0.0, 4.0, 300.0])
@pytest.mark.parametrize("left_s", [60.0, 600.0, 36000.0])
def test_a_time_limit_is_planned_for(
    make_profile: MakeProfile, cpu: Machine, step_s: float, validation_s: float, left_s: float
) -> None:
    pace = Pace(step_s=step_s, samples=16, validation_s=validation_s, left_s=left_s)
    chosen = values(make_profile(), cpu, pace=pace)
    step_s *= chosen["data.batch_size"] / 16  # half the batch takes half the time
    epochs = chosen["trainer.max_epochs"]
    every = chosen["trainer.check_val_every_n_epoch"]
    assert epochs % every == 0  # the last epoch is validated
    part = chosen.get("trainer.limit_val_batches", 15) / 15
    steps = steps_of(chosen, 70)
    needed_s = steps * step_s + epochs // every * part * validation_s
    least_s = step_s + part * validation_s
    assert needed_s <= max(PLANNED_SHARE * left_s, least_s) + 1e-6
    # Where the images allow more, the time is used.
    if steps < 0.9 * STEPS_CPU[1] and left_s > 30 * step_s:
        assert needed_s > 0.5 * left_s


def test_batches_are_halved_where_few_steps_fit_in_the_time(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    def batch(machine: Machine, left_s: float, **given: Any) -> tuple[int, float]:
        samples = 16 if machine is cpu else 32
        pace = Pace(step_s=1.0, samples=samples, validation_s=0.0, left_s=left_s)
        chosen = values(make_profile(), machine, pace=pace, **given)
        return chosen["data.batch_size"], chosen["optimiser.lr"]

    assert batch(cpu, 3600) == (16, 0.003)
    # 45 steps of 16 samples fit; 8 are the fewest that an update is made of.
    assert batch(cpu, 60) == (8, 0.00212)
    large = Machine(cores=8, memory_bytes=1 << 36, gpu_memory_bytes=1 << 36, bf16=True)
    assert batch(large, 3600)[0] == 32
    assert batch(large, 220)[0] == 16
    assert batch(large, 60)[0] == 8
    assert batch(cpu, 60, data__batch_size=16)[0] == 16


def test_without_a_limit_there_are_some_forty_epochs_and_ten_validations(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    chosen = values(make_profile(), cpu)
    assert 30 <= chosen["trainer.max_epochs"] <= 50
    assert STEPS_CPU[0] * 0.8 <= steps_of(chosen, 70) <= STEPS_CPU[1] * 1.1
    times = chosen["trainer.max_epochs"] / chosen["trainer.check_val_every_n_epoch"]
    assert 2 <= times <= 10


def test_a_set_larger_than_the_training_gets_short_epochs(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    chosen = values(make_profile(images=10**6), cpu, train=700_000, val=150_000)
    assert steps_of(chosen, 700_000) <= STEPS_CPU[1]
    assert chosen["trainer.max_epochs"] >= 4


def test_no_validation_part_means_no_validation_rules(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    chosen = values(make_profile(), cpu, val=0)
    assert "trainer.check_val_every_n_epoch" not in chosen
    assert chosen["trainer.max_epochs"] > 1


# ---- augmentation


def test_magnification_follows_the_images(make_profile: MakeProfile, cpu: Machine) -> None:
    assert values(make_profile(size_spread=1.0), cpu)["augment.scale"] == [0.8, 1.25]
    assert values(make_profile(size_spread=4.0), cpu)["augment.scale"] == [0.5, 2.0]
    assert values(make_profile(size_spread=99.0), cpu)["augment.scale"] == [0.5, 2.0]


def test_inversion_is_for_images_that_do_both(make_profile: MakeProfile, cpu: Machine) -> None:
    both = values(make_profile(brighter_fraction=0.84, channels=3), cpu)
    assert "augment.invert_probability" not in both
    one = values(make_profile(brighter_fraction=0.0, channels=3), cpu)
    assert one["augment.invert_probability"] == one["augment.grey_probability"] == 0.0


# ---- overriding


def test_what_is_given_is_never_planned_and_later_rules_follow_it(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    free = values(make_profile(), cpu)
    for option, value in free.items():
        choices = plan(make_profile(), cpu, train_images=70, val_images=15, given={option: value})
        assert option not in {choice.option for choice in choices}
        rest = {choice.option: choice.value for choice in choices}
        if option != "trainer.max_epochs":  # who counts epochs sees each image once in one
            assert {**rest, option: value} == free
    chosen = values(make_profile(), cpu, data__patch=[64, 64])
    assert len(chosen["net.widths"]) == 4  # 64 / 2^3 = 8 px are left
    named = values(make_profile(), cpu, net__long_skips="none,concat,concat")
    assert len(named["net.widths"]) == 4
    assert "net.widths" not in values(make_profile(), cpu, net__architecture="fpn")
    assert "data.patch" not in values(make_profile(), cpu, data__working_size=[128, 128])
    own = values(make_profile(), cpu, augment__kind="em")
    assert not any(name.startswith("augment.") for name in own if name != "augment.kind")


def test_every_choice_has_a_reason_and_the_plan_is_deterministic(
    make_profile: MakeProfile, cpu: Machine
) -> None:
    first, again = (
        plan(make_profile(), cpu, train_images=70, val_images=15, given={}) for _ in range(2)
    )
    assert first == again
    assert all(choice.reason for choice in first)
    assert {choice.option for choice in first} <= set(RULES)


# ---- any profile at all

SIDES = st.integers(1, 20_000)
SHARES = st.floats(0, 1, allow_nan=False)


@st.composite
def profiles(draw: st.DrawFn) -> DataProfile:
    heights, widths = (sorted(draw(st.tuples(SIDES, SIDES, SIDES))) for _ in range(2))
    images = draw(st.integers(1, 100_000))
    seen = st.builds(
        ClassProfile,
        name=st.just("c"),
        pixel_fraction=SHARES,
        images=st.integers(1, images),
        objects_per_image=st.floats(1, 1e4),
        object_area_px=st.just((1.0, 2.0, 3.0)),
        extent=SHARES,
        width_px=st.floats(1, 5000),
    )
    absent = st.just(ClassProfile("absent", 0.0, 0, None, None, None, None))
    channels = draw(st.integers(1, 40))
    pixels = images * heights[1] * widths[1]
    return DataProfile(
        images=images,
        profiled=min(images, 100),
        channels=channels,
        bits=draw(st.sampled_from([8, 16, 32])),
        multilabel=draw(st.booleans()),
        height_px=(float(heights[0]), float(heights[1]), float(heights[2])),
        width_px=(float(widths[0]), float(widths[1]), float(widths[2])),
        pixels=pixels,
        area_px=(
            float(heights[0] * widths[0]),
            float(heights[1] * widths[1]),
            float(heights[2] * widths[2]),
        ),
        odd_fraction=draw(SHARES),
        oddest_share=draw(st.floats(1 / images, 1)),
        decoded_bytes=pixels * channels,
        intensity_p01_p50_p99=((0.0, 1.0, 2.0),) * channels,
        lowest=draw(st.floats(-2000, 10)),
        classes=tuple(draw(st.lists(st.one_of(seen, absent), min_size=1, max_size=5))),
        background_fraction=draw(SHARES),
        ignored_fraction=draw(SHARES),
        size_spread=draw(st.floats(1, 1e3)),
        brighter_fraction=draw(SHARES),
        atlas_dice=draw(SHARES),
        atlas_dice_mirrored=draw(SHARES),
        atlas_dice_upended=draw(SHARES),
        neighbour_dice=draw(SHARES),
        stranger_dice=draw(SHARES),
        groups=draw(st.none() | st.integers(1, 50)),
    )


MACHINES = st.builds(
    Machine,
    cores=st.integers(1, 128),
    memory_bytes=st.integers(1 << 28, 1 << 40),
    gpu_memory_bytes=st.none() | st.integers(1 << 31, 1 << 38),
    bf16=st.booleans(),
)
PACES = st.none() | st.builds(
    Pace,
    step_s=st.floats(1e-3, 1e3),
    samples=st.integers(1, 128),
    validation_s=st.floats(0, 1e5),
    left_s=st.floats(0.1, 1e6),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profile=profiles(), machine=MACHINES, pace=PACES, data=st.data())
def test_any_plan_is_a_valid_config(
    profile: DataProfile, machine: Machine, pace: Pace | None, data: st.DataObject
) -> None:
    train = data.draw(st.integers(1, profile.images))
    val = data.draw(st.integers(0, profile.images - train))
    choices = plan(profile, machine, train_images=train, val_images=val, given={}, pace=pace)
    groups = by_group(choices)
    config = DataConfig(**groups["data"])
    net = NetConfig(**groups["net"])
    LossConfig(**groups["loss"])
    OptimiserConfig(**groups["optimiser"])
    AugmentConfig(**groups["augment"]).recipe(class_names=(), channels=profile.channels)
    # One batch at least, and a bottleneck of more than one pixel for batch norm.
    assert train * config.patches_per_image >= config.batch_size
    height, width = config.working_size or config.patch or (0, 0)
    assert min(height, width) >= 2**net.levels
    # The smallest image is not blown up to more than twice its side, however small.
    smallest = min(profile.height_px[0], profile.width_px[0])
    assert 2**net.levels <= max(2 * smallest, 2)
    trainer = groups["trainer"]
    assert trainer["max_epochs"] >= 1
    assert trainer.get("check_val_every_n_epoch", 1) <= trainer["max_epochs"]
    assert 1 <= trainer.get("limit_val_batches", 1) <= max(val, 1)


def by_group(choices: tuple[Choice, ...]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for choice in choices:
        group, _, name = choice.option.rpartition(".")
        value = tuple(choice.value) if isinstance(choice.value, list) else choice.value
        groups.setdefault(group, {})[name] = value
    return groups


@pytest.mark.parametrize(
    ("option", "limit"),
    [
        ("trainer.limit_train_batches", limit)
        for limit in (0, 0.0, -1, -0.5, 1.5, math.inf, math.nan)
    ]
    + [("trainer.limit_val_batches", limit) for limit in (-1, 1.5)],
)
def test_epochs_of_no_batch_are_refused(
    option: str, limit: float, make_profile: MakeProfile, cpu: Machine
) -> None:
    with pytest.raises(RequestInvalid, match=f"{option} is {limit}; give a whole number"):
        plan(make_profile(), cpu, train_images=80, val_images=20, given={option: limit})


@pytest.mark.parametrize(
    ("limit", "steps"),
    [(1, 1), (3, 3), (3.0, 3), (1.0, 5), (0.5, 2), (0.01, 1), (None, 5), (99, 5)],
)
def test_a_limit_counts_batches_or_is_a_share_of_them(
    limit: float | None, steps: int, make_profile: MakeProfile, cpu: Machine
) -> None:
    given = {
        "trainer.limit_train_batches": limit,
        "trainer.limit_val_batches": 0,
        "data.batch_size": 16,
        "data.patches_per_image": 1,
    }
    chosen = {
        c.option: c.value
        for c in plan(make_profile(), cpu, train_images=80, val_images=20, given=given)
    }
    every = chosen["trainer.check_val_every_n_epoch"]
    assert chosen["trainer.max_epochs"] % every == 0
    # 600 steps at least on a CPU, in whole epochs of so many steps.
    assert 600 - every * steps < chosen["trainer.max_epochs"] * steps <= 1500
