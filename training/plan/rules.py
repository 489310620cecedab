"""The rules by which a training is set up: all of them, in the order in which they apply.

Each rule is one function from what is known to a value and its reason. It sees what was given by
the user and what earlier rules chose, so that a rule follows whatever stands before it: give a
patch, and depth, batch and epochs are planned for that patch. A rule that has nothing to say
returns None, and the option keeps its default.

nnU-Net (Isensee 2021) plans in the same way: patch from the median size, depth until a few pixels
are left, batch from memory, a third of the crops on foreground. Here nets are smaller and trainings
shorter, because users have two cores or one GPU, and images of which place tells the class are
resized whole.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contract.errors import RequestInvalid
from training.data.profile import ClassProfile, DataProfile
from training.plan.machine import Machine

STEP_PX = 32
# Longest side of a patch and of a working size.
PATCH_CPU_PX, PATCH_GPU_PX = 192, 320
WORKING_CPU_PX, WORKING_GPU_PX = 256, 512
# Images up to this side are taken whole, as one patch.
WHOLE_CPU_PX, WHOLE_GPU_PX = 160, 320
# Above this Dice of a fixed mask, place tells much of the class.
PLACE_TELLS = 0.5
# What a turned-over fixed mask must keep of its Dice for images to have no such side.
SYMMETRIC = 0.9
# How much more alike neighbours are than strangers in a stack: 0.19 on EM slices, below 0.02 on
# unordered images.
NEIGHBOURS_ALIKE = 0.1
# Thickness that a structure must keep in pixels when images are resized.
LEAST_WIDTH_PX = 4.0
# Share of the images below which a class or a kind of image is rare.
RARE_SHARE = 0.25
# Share of odd images from which on they are a kind, not a single bad image.
LEAST_ODD = 0.02
# Pixels of the largest image over those of the median one, from which on size counts.
LARGER_TIMES = 4.0
# Pixels of one step on a CPU: 16 patches of 192 x 192, which reached Dice 0.919 on nuclei.
STEP_PIXELS_CPU = 16 * 192 * 192
BATCH_CPU, BATCH_GPU = 16, 32
LEAST_BATCH = 4
# Samples that batch norm and the Dice term want in one weight update.
LEAST_EFFECTIVE_BATCH = 8
# Where a time limit leaves fewer steps than this, batches are halved down to that.
FEW_STEPS = 200
# Optimiser steps of a training without a time limit.
STEPS_CPU, STEPS_GPU = (600, 1500), (2000, 10000)
EPOCHS = 40
# Times that each patch's worth of pixels is shown, before the bounds above.
PASSES = 40
VALIDATIONS = 10
# Share of the time that validation may take, and one pass of it.
VALIDATION_SHARE, ONE_VALIDATION_SHARE = 0.15, 0.1
# Share of a time limit that is planned with: another process may take a core in the meantime.
PLANNED_SHARE = 0.88
# Share of the memory that one training step may take.
MEMORY_SHARE = 0.4


@dataclass(frozen=True)
class Pace:
    """How fast this machine trains, measured, and how long it may.

    Attributes:
        step_s: one optimiser step, loading included.
        samples: of that step.
        validation_s: one pass over the validation part.
        left_s: until the time limit.
    """

    step_s: float
    samples: int
    validation_s: float
    left_s: float


@dataclass(frozen=True)
class Known:
    """All that a rule may look at.

    Attributes:
        profile: of the images.
        machine: to train on.
        train_images: in the training part.
        val_images: in the validation part.
        chosen: by dotted option: what was given and what earlier rules chose.
        given: which of these the user gave.
        pace: where a time limit is to be kept.
    """

    profile: DataProfile
    machine: Machine
    train_images: int
    val_images: int
    chosen: Mapping[str, Any]
    given: frozenset[str]
    pace: Pace | None = None

    @property
    def gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return self.machine.gpu_memory_bytes is not None

    @property
    def sample_hw(self) -> tuple[int, int]:
        """Size of one training sample."""
        height, width = self.chosen.get("data.working_size") or self.chosen["data.patch"]
        return int(height), int(width)

    @property
    def batch(self) -> int:
        """Samples in one batch."""
        return int(self.chosen["data.batch_size"])

    @property
    def samples_per_update(self) -> int:
        """Samples between two changes of the weights."""
        return self.batch * int(self.chosen.get("trainer.accumulate_grad_batches") or 1)

    def step_s(self, pace: Pace) -> float:
        """Duration of one optimiser step, where other batches were measured."""
        return pace.step_s * self.samples_per_update / pace.samples

    @property
    def sample_pixels(self) -> int:
        """Pixels of one training sample."""
        return self.sample_hw[0] * self.sample_hw[1]

    @property
    def seen(self) -> list[ClassProfile]:
        """The classes that some mask holds."""
        return [c for c in self.profile.classes if c.width_px is not None]

    @property
    def thinnest_px(self) -> float:
        """Thickness of the thinnest class."""
        return min((c.width_px for c in self.seen if c.width_px is not None), default=1.0)

    @property
    def thickest_px(self) -> float:
        """Thickness of the thickest class."""
        return max((c.width_px for c in self.seen if c.width_px is not None), default=1.0)

    @property
    def rarest(self) -> float:
        """Share of the pixels that the rarest class has."""
        return min((c.pixel_fraction for c in self.seen), default=1.0)

    @property
    def mirrors(self) -> bool:
        """Whether left and right may be exchanged."""
        profile = self.profile
        return (
            profile.atlas_dice < PLACE_TELLS
            or profile.atlas_dice_mirrored >= SYMMETRIC * profile.atlas_dice
        )

    @property
    def upends(self) -> bool:
        """Whether top and bottom may be exchanged."""
        profile = self.profile
        return (
            profile.atlas_dice < PLACE_TELLS
            or profile.atlas_dice_upended >= SYMMETRIC * profile.atlas_dice
        )


Chosen = tuple[Any, str] | None
Rule = Callable[[Known], Chosen]


@dataclass(frozen=True)
class Choice:
    """One planned option, by its dotted name, and why."""

    option: str
    value: Any
    reason: str


def plan(
    profile: DataProfile,
    machine: Machine,
    *,
    train_images: int,
    val_images: int,
    given: Mapping[str, Any],
    pace: Pace | None = None,
) -> tuple[Choice, ...]:
    """Choose every option that is not ``given``; the same arguments give the same choices.

    Raises:
        RequestInvalid: an epoch of ``given`` has no batch, or more than all.
    """
    _check_limits(given)
    chosen = dict(given)
    choices = []
    for option, rule in RULES.items():
        if option in given:
            continue
        known = Known(profile, machine, train_images, val_images, chosen, frozenset(given), pace)
        answer = rule(known)
        if answer is not None:
            chosen[option] = answer[0]
            choices.append(Choice(option, *answer))
    return tuple(choices)


def _check_limits(given: Mapping[str, Any]) -> None:
    # As Lightning reads them: a whole number, also 2.0, counts batches; 1.0 and less is a share.
    for option, none in (
        ("trainer.limit_train_batches", False),
        ("trainer.limit_val_batches", True),
    ):
        limit = given.get(option)
        if limit is None or (none and limit == 0):
            continue
        if limit <= 0 or not limit < math.inf or (limit > 1 and limit % 1):
            raise RequestInvalid(
                f"{option} is {limit}; give a whole number of batches, 1 or more, or a share of "
                f"them above 0 and up to 1.0{', or 0 for no validation' if none else ''}"
            )


# ---- the split -----------------------------------------------------------------------------------


def data_seed(known: Known) -> Chosen:
    """One seed for all that is random; another one here holds the data still while weights vary."""
    return known.chosen.get("seed", 0), "the run's own"


def split(known: Known) -> Chosen:
    """Cut stacks and films into runs of neighbours, which would give the test part away."""
    profile = known.profile
    alike = profile.neighbour_dice - profile.stranger_dice
    if (
        profile.groups is not None
        or known.chosen.get("data.split_file")
        or alike < NEIGHBOURS_ALIKE
    ):
        return None
    return "block", (
        f"masks of images that follow each other by name agree at Dice "
        f"{profile.neighbour_dice:.2f}, others at {profile.stranger_dice:.2f}: slices of one stack"
    )


# ---- what the net sees ---------------------------------------------------------------------------


def normalising(known: Known) -> Chosen:
    """Hounsfield units and their like mean the same in every image; grey levels do not."""
    if known.profile.lowest < -100:
        return "fixed", (
            f"intensities go down to {known.profile.lowest:g}, so they look like physical units"
        )
    return "image", "grey levels: each image by its own mean and standard deviation"


def working_size(known: Known) -> Chosen:
    """Whole images at one size where a patch would not show what place or shape it is cut from."""
    profile = known.profile
    if known.chosen.get("data.patch") is not None:
        return None
    patch_px = PATCH_GPU_PX if known.gpu else PATCH_CPU_PX
    longest_px = WORKING_GPU_PX if known.gpu else WORKING_CPU_PX
    height, width = profile.height_px[1], profile.width_px[1]
    if max(height, width) <= max(patch_px, longest_px):
        return None  # a patch shows most of an image as it is
    by_place = profile.atlas_dice >= PLACE_TELLS
    thick = known.thickest_px > patch_px / 3
    scale = longest_px / max(height, width)
    if not (by_place or thick) or known.thinnest_px * scale < LEAST_WIDTH_PX:
        return None
    size = [max(STEP_PX, round(side * scale / STEP_PX) * STEP_PX) for side in (height, width)]
    why = (
        f"place alone predicts the masks at Dice {profile.atlas_dice:.2f}"
        if by_place
        else f"structures are {known.thickest_px:.0f} px thick"
    )
    return size, f"{why}: the net sees whole images (median {height:.0f} x {width:.0f} px), resized"


def patch(known: Known) -> Chosen:
    """Cut squares, a multiple of 32 px, within the median image; take small images as a whole."""
    profile = known.profile
    if known.chosen.get("data.working_size") is not None:
        return None
    whole_px = WHOLE_GPU_PX if known.gpu else WHOLE_CPU_PX
    largest = max(profile.height_px[2], profile.width_px[2])
    if largest <= whole_px:
        side = math.ceil(largest / STEP_PX) * STEP_PX
        return [side, side], f"takes the largest image, {largest:.0f} px, as a whole"
    most = PATCH_GPU_PX if known.gpu else PATCH_CPU_PX
    shorter = min(profile.height_px[1], profile.width_px[1])
    side = min(max(int(shorter) // STEP_PX * STEP_PX, STEP_PX), most)
    return [side, side], (
        f"within the median image ({profile.height_px[1]:.0f} x {profile.width_px[1]:.0f} px), "
        f"at most {most} on a {'GPU' if known.gpu else 'CPU'}"
    )


# ---- the net -------------------------------------------------------------------------------------


def widths(known: Known) -> Chosen:
    """Halve until 8 px are left, with few channels on a CPU and twice as many on a GPU."""
    if known.chosen.get("net.architecture", "unet") != "unet":
        return None
    shorter = min(known.sample_hw)
    smallest = min(known.profile.height_px[0], known.profile.width_px[0])
    whole = known.chosen.get("data.working_size") is not None
    most = 5 if whole or known.gpu else 4
    least_left = 4 if whole else 8
    levels = min(int(math.log2(max(shorter / least_left, 4))), most)
    # An image is padded to the divisor: not to more than twice its own size.
    levels = max(1, min(levels, int(math.log2(max(2 * smallest, 2)))))
    words = known.chosen.get("net.long_skips", "concat")
    words = words.split(",") if isinstance(words, str) else list(words)
    said = ""
    if len(words) > 1:
        levels = len(words)
        said = f", {levels} levels as net.long_skips names"
    table = (32, 64, 128, 256, 512, 512) if known.gpu else (16, 32, 64, 128, 256, 256)
    if levels == 5 and not known.gpu:
        table = (16, 32, 64, 128, 192, 256)
    channels = [*table, *([table[-1]] * levels)][: levels + 1]
    left = shorter / 2**levels
    return channels, (
        f"{levels} halvings leave {left:.0f} px of {shorter}{said}; "
        f"{'a GPU takes twice the channels' if known.gpu else 'few channels, for a CPU'}"
    )


# ---- batches -------------------------------------------------------------------------------------


def batch_size(known: Known) -> Chosen:
    """Pixels per step that a CPU takes in about a second, or 32 on a GPU, if memory allows."""
    memory = known.machine.gpu_memory_bytes or known.machine.memory_bytes
    by_memory = int(MEMORY_SHARE * memory / sample_bytes(known))
    wanted = BATCH_GPU if known.gpu else min(BATCH_CPU, STEP_PIXELS_CPU // known.sample_pixels)
    size = max(1, min(max(wanted, LEAST_BATCH), by_memory))
    if size == by_memory:
        reason = f"what {memory / 1e9:.0f} GB of memory allow"
    else:
        reason = f"{size} samples of {known.sample_hw[0]} x {known.sample_hw[1]} px in a step"
    if known.pace is not None:
        one_s = known.pace.step_s / known.pace.samples
        usable_s = (1 - VALIDATION_SHARE) * PLANNED_SHARE * known.pace.left_s
        smaller = size
        while smaller >= 2 * LEAST_EFFECTIVE_BATCH and usable_s < FEW_STEPS * smaller * one_s:
            smaller //= 2
        if smaller < size:
            fitting = max(1, int(usable_s / (size * one_s)))
            return smaller, f"{fitting} steps of {size} samples fit in the time: smaller, but more"
    return size, reason


def sample_bytes(known: Known) -> int:
    """Estimate the memory of one sample in a training step.

    Four convolutions at each level keep input, output and normalised output, in float32; each
    level has a quarter of the pixels and twice the channels, so all levels are twice the first.
    """
    first = (known.chosen.get("net.widths") or (64,))[0]
    return known.sample_pixels * (first * 4 * 3 * 2 + known.profile.channels) * 4


def accumulate(known: Known) -> Chosen:
    """Sum small batches before a weight is moved, but for a batch that was asked for."""
    batch = known.batch
    if batch >= LEAST_EFFECTIVE_BATCH or "data.batch_size" in known.given:
        return None
    times = math.ceil(LEAST_EFFECTIVE_BATCH / batch)
    if times == 1:
        return None
    return times, f"batches of {batch} are few for one update: {times} of them"


def foreground_fraction(known: Known) -> Chosen:
    """Centre a third of the crops on foreground, as nnU-Net does; half where a class is rare."""
    if known.chosen.get("data.working_size") is not None:
        return None
    if known.rarest < 0.02:
        return 0.5, f"the rarest class has {100 * known.rarest:.2g} % of the pixels"
    return 0.33, f"the rarest class has {100 * known.rarest:.2g} % of the pixels, which is enough"


def rare_share(known: Known) -> Chosen:
    """Draw images of a rare class or kind more often (LVIS, Gupta 2019), where there are such."""
    profile = known.profile
    rare = [c for c in known.seen if c.images < RARE_SHARE * profile.images]
    said = [f"{c.name} is in {c.images} of {profile.images} images" for c in rare[:3]]
    if profile.odd_fraction >= LEAST_ODD:
        said.append(
            f"{100 * profile.odd_fraction:.2g} % of the images look unlike most (the rarest kind "
            f"is {100 * profile.oddest_share:.2g} %)"
        )
    if not said:
        return 0.0, "no class is in few images, and the images look alike"
    return RARE_SHARE, f"{'; '.join(said)}: drawn more often, sqrt({RARE_SHARE} / share) times"


def area_power(known: Known) -> Chosen:
    """Draw large images more often where sizes differ, or most of what they show is never seen."""
    if known.chosen.get("data.working_size") is not None:
        return None
    _, median, greatest = known.profile.area_px
    times = greatest / max(median, known.sample_pixels)
    if times < LARGER_TIMES:
        return 0.0, "the largest image has about as many patches as the median one"
    return 0.5, (
        f"the largest image has {times:.0f} times the pixels of the median one: drawn more often, "
        "by the root of its pixels"
    )


def workers(known: Known) -> Chosen:
    """Leave a core to the net."""
    count = min(12 if known.gpu else 4, known.machine.cores - 1)
    return count, f"{known.machine.cores} core(s), one of them for the net"


def cache_mb(known: Known) -> Chosen:
    """All decoded images for every worker, but not more than a quarter of the memory."""
    profile = known.profile
    size = known.chosen.get("data.working_size")
    images = profile.decoded_bytes
    if size is not None:
        images = profile.images * size[0] * size[1] * (4 * profile.channels + 1)
    wanted = 1.3 * images * max(1, known.chosen["data.workers"])
    most = known.machine.memory_bytes / 4
    megabytes = max(64, math.ceil(min(wanted, most) / 1e6))
    fits = "all fit" if wanted <= most else "a quarter of the memory; not all fit"
    return megabytes, f"decoded images take {images / 1e6:.0f} MB, kept by each worker: {fits}"


# ---- how long ------------------------------------------------------------------------------------


def steps(known: Known) -> int:
    """Return how many steps the training has: by the images, and by the time where it is limited.

    Validation's share is taken off the time first.
    """
    least, most = STEPS_GPU if known.gpu else STEPS_CPU
    share = known.train_images / known.profile.images
    samples = PASSES * max(known.train_images, share * known.profile.pixels / known.sample_pixels)
    wanted = min(max(math.ceil(samples / known.batch), least), most)
    if known.pace is None:
        return wanted
    usable_s = PLANNED_SHARE * known.pace.left_s
    validating_s = max(VALIDATION_SHARE * usable_s, validation_pass_s(known, known.pace))
    return max(1, min(wanted, int((usable_s - validating_s) / known.step_s(known.pace))))


def validation_pass_s(known: Known, pace: Pace) -> float:
    """Return the time of one validation pass, after it was cut to its share of the time."""
    one_image_s = pace.validation_s / max(known.val_images, 1)
    allowed_s = ONE_VALIDATION_SHARE * PLANNED_SHARE * pace.left_s
    return min(pace.validation_s, max(allowed_s, one_image_s))


def patches_per_image(known: Known) -> Chosen:
    """As many that there are about 40 epochs; one where the user counts epochs."""
    batch = known.batch
    fills = math.ceil(batch / known.train_images)
    if "trainer.max_epochs" in known.chosen or "trainer.max_steps" in known.chosen:
        return fills, "each image once in an epoch" if fills == 1 else "fills one batch"
    wanted = max(1, round(steps(known) / EPOCHS)) * batch / known.train_images
    times = max(fills, round(wanted), 1)
    return times, f"{known.train_images} images, so that there are about {EPOCHS} epochs"


def limit_train_batches(known: Known) -> Chosen:
    """Cut epochs short where one pass over the images is more than a quarter of the training."""
    if "trainer.max_epochs" in known.chosen or "trainer.max_steps" in known.chosen:
        return None
    if epoch_steps(known) <= steps(known) / 4:
        return None
    return max(1, steps(known) // 10), (
        f"one pass over the images takes {epoch_steps(known)} steps, and there are "
        f"{steps(known)} in all"
    )


def epoch_steps(known: Known) -> int:
    """Return the steps of one epoch."""
    samples = known.train_images * int(known.chosen["data.patches_per_image"])
    batches = max(1, samples // known.batch)
    limit = known.chosen.get("trainer.limit_train_batches")
    if limit is None:
        return batches
    if isinstance(limit, int) or limit > 1:
        return min(batches, int(limit))
    return max(1, int(batches * limit))


def validation_epochs(known: Known) -> Chosen:
    """Validate ten times, or less often where that would take more than 15 % of the time."""
    if known.val_images == 0 or "trainer.max_epochs" in known.given:
        return None  # who counts epochs has each of them validated
    epochs = max(1, steps(known) // epoch_steps(known))
    times = validations(known, epochs)
    every = math.ceil(epochs / times)
    return every, f"{times} validation(s), at most about {100 * VALIDATION_SHARE:.0f} % of the time"


def validations(known: Known, epochs: int) -> int:
    """Return how many validation passes a training of ``epochs`` has, at least 1."""
    if known.pace is not None:
        cost = validation_pass_s(known, known.pace) / known.step_s(known.pace)
    else:
        # A forward pass is a third of a training step.
        share = known.val_images / known.profile.images
        pixels = share * known.profile.pixels
        if known.chosen.get("data.working_size") is not None:
            pixels = known.val_images * known.sample_pixels
        cost = pixels / (3 * known.batch * known.sample_pixels)
    affordable = VALIDATION_SHARE * epochs * epoch_steps(known) / max(cost, 1e-9)
    return max(1, min(VALIDATIONS, epochs, int(affordable)))


def limit_val_batches(known: Known) -> Chosen:
    """Validate on a part where one pass would take more than a tenth of the time."""
    if known.pace is None or known.val_images == 0:
        return None
    allowed_s = ONE_VALIDATION_SHARE * PLANNED_SHARE * known.pace.left_s
    if known.pace.validation_s <= allowed_s:
        return None
    part = max(1, int(known.val_images * allowed_s / known.pace.validation_s))
    return part, (
        f"all {known.val_images} would take {known.pace.validation_s:.0f} s of "
        f"{known.pace.left_s:.0f} s"
    )


def max_epochs(known: Known) -> Chosen:
    """Run whole validation intervals, so that the last epoch is validated."""
    if "trainer.max_steps" in known.chosen:
        return None
    every = known.chosen.get("trainer.check_val_every_n_epoch") or 1
    count = max(1, steps(known) // epoch_steps(known))
    count = max(every, count // every * every) if count > every else count
    total = count * epoch_steps(known)
    if known.pace is None:
        return count, f"{count} epochs of {epoch_steps(known)} steps are {total} steps"
    unhurried = steps(replace(known, pace=None))
    fewer = "" if total >= unhurried / 2 else f"; without a limit it would be {unhurried}"
    return count, (
        f"{total} steps of {known.step_s(known.pace):.2f} s (measured) and the validations fit in "
        f"{known.pace.left_s:.0f} s with {100 * (1 - PLANNED_SHARE):.0f} % to spare{fewer}"
    )


# ---- how it learns -------------------------------------------------------------------------------


def lr(known: Known) -> Chosen:
    """0.003 for AdamW and 16 samples; less for smaller batches, by the square root."""
    if known.chosen.get("optimiser.kind", "adamw") != "adamw":
        return 0.01, "nnU-Net's for SGD"
    effective = known.samples_per_update
    rate = round(3e-3 * min(1.0, math.sqrt(effective / 16)), 5)
    return rate, f"{effective} samples in an update; 0.003 for 16 and more"


def class_weights(known: Known) -> Chosen:
    """Weigh pixels of rare classes; the Dice term weighs classes alike already."""
    if known.rarest >= 0.005:
        return None, "no class is so rare that the Dice term would not do"
    return "balanced", f"the rarest class has {100 * known.rarest:.2g} % of the pixels"


def precision(known: Known) -> Chosen:
    """Half the bits where the hardware multiplies them faster."""
    if known.machine.bf16:
        return "bf16-mixed", "the hardware has bfloat16 instructions"
    return "32-true", "no bfloat16 instructions here"


def channels_last(known: Known) -> Chosen:
    """Lay tensors as the convolutions of the hardware read them."""
    if not known.gpu:
        return True, "convolutions on a CPU take less time in this layout"
    if known.machine.bf16:
        return True, "16-bit convolutions on a GPU read this layout without a copy"
    return None


# ---- augmentation --------------------------------------------------------------------------------


def kind(known: Known) -> Chosen:
    """Mirror and turn as the masks' own symmetry allows."""
    profile = known.profile
    if not known.mirrors:
        return "xray", (
            f"left is not right: place predicts the masks at Dice {profile.atlas_dice:.2f}, "
            f"mirrored at {profile.atlas_dice_mirrored:.2f}"
        )
    if not known.upends:
        return "photo", (
            f"top is not bottom: place predicts the masks at Dice {profile.atlas_dice:.2f}, "
            f"upside down at {profile.atlas_dice_upended:.2f}"
        )
    return "microscopy", "masks look alike mirrored and turned"


def scale(known: Known) -> Chosen:
    """Magnify as far as the images themselves differ, and a quarter at least."""
    if not _own_recipe(known):
        return None
    most = min(max(math.sqrt(known.profile.size_spread), 1.25), 2.0)
    return [round(1 / most, 3), round(most, 3)], (
        f"thickness differs {known.profile.size_spread:.1f} times between images"
    )


def elastic_probability(known: Known) -> Chosen:
    """Bend few images of fine structures (Ronneberger 2015)."""
    if not _own_recipe(known) or known.train_images >= 50 or known.thinnest_px > 16:
        return None
    return 0.2, f"{known.train_images} images of structures {known.thinnest_px:.0f} px thick"


def invert_probability(known: Known) -> Chosen:
    """Turn bright into dark only where the images do both."""
    if not _own_recipe(known) or _both_polarities(known):
        return None
    return 0.0, _polarity(known)


def grey_probability(known: Known) -> Chosen:
    """Take colour away only where images of both kinds of light are mixed."""
    if not _own_recipe(known) or known.profile.channels != 3 or _both_polarities(known):
        return None
    return 0.0, _polarity(known)


def _own_recipe(known: Known) -> bool:
    return known.chosen.get("augment.kind") == "microscopy"


def _both_polarities(known: Known) -> bool:
    return 0.05 <= known.profile.brighter_fraction <= 0.95


def _polarity(known: Known) -> str:
    return (
        f"the foreground is the brighter part in {100 * known.profile.brighter_fraction:.0f} % of "
        "the images"
    )


# In the order in which they apply: a rule may look at what stands above it.
RULES: dict[str, Rule] = {
    "data.seed": data_seed,
    "data.split": split,
    "normalising": normalising,
    "data.working_size": working_size,
    "data.patch": patch,
    "net.widths": widths,
    "data.batch_size": batch_size,
    "trainer.accumulate_grad_batches": accumulate,
    "data.foreground_fraction": foreground_fraction,
    "data.rare_share": rare_share,
    "data.area_power": area_power,
    "data.workers": workers,
    "data.cache_mb": cache_mb,
    "data.patches_per_image": patches_per_image,
    "trainer.limit_train_batches": limit_train_batches,
    "trainer.check_val_every_n_epoch": validation_epochs,
    "trainer.limit_val_batches": limit_val_batches,
    "trainer.max_epochs": max_epochs,
    "trainer.precision": precision,
    "channels_last": channels_last,
    "optimiser.lr": lr,
    "loss.class_weights": class_weights,
    "augment.kind": kind,
    "augment.scale": scale,
    "augment.elastic_probability": elastic_probability,
    "augment.invert_probability": invert_probability,
    "augment.grey_probability": grey_probability,
}
