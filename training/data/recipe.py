"""How strongly samples are altered, by kind of image."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

Kind = Literal["auto", "microscopy", "fluorescence", "em", "xray", "photo", "none"]

# Class names that say which side of the body they are on.
SIDED = re.compile(r"(?<![a-z])(left|right|links|rechts|gauche|droite?)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Recipe:
    """One value for everything that can be altered; the default alters nothing.

    Attributes:
        flip_horizontal: mirror left and right, in half of the samples.
        flip_vertical: mirror top and bottom, in half of the samples.
        rotate90: turn by a multiple of 90 degrees (square patches only).
        scale: least and greatest magnification, drawn evenly in its logarithm.
        rotation_deg: turn by up to this angle either way, in a third of the samples.
        shift: move by up to this fraction of the size (only where whole images are resized).
        elastic_probability: of a smooth local warp.
        gamma: intensities of the image's own range 0..1 are raised to exp(-gamma)..exp(gamma).
        brightness: shift by up to this many of the image's standard deviations.
        contrast: deviations from the mean are scaled by exp(-contrast)..exp(contrast).
        blur_probability: of a Gaussian blur, sigma 0.5 to 1.5 px.
        noise: greatest standard deviation of Gaussian noise, in the image's own.
        noise_probability: of that noise.
        invert_probability: of turning bright into dark.
        colour_probability: of shifting hue and saturation, 3 channels only.
        grey_probability: of taking the colour away, 3 channels only.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotate90: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    rotation_deg: float = 0.0
    shift: float = 0.0
    elastic_probability: float = 0.0
    gamma: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    blur_probability: float = 0.0
    noise: float = 0.0
    noise_probability: float = 0.0
    invert_probability: float = 0.0
    colour_probability: float = 0.0
    grey_probability: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, got {self.scale}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must lie in 0..1, got {value}")
            if isinstance(value, float) and value < 0:
                raise ValueError(f"{field.name} must be >= 0, got {value}")


# Strength 1. Microscopy has no up and down, magnification differs between instruments, and
# transmitted light is the inverse of fluorescence. An X-ray is always hung the same way, and its
# left and right lung are different classes.
RECIPES: dict[str, Recipe] = {
    "none": Recipe(),
    "microscopy": Recipe(
        flip_horizontal=True,
        flip_vertical=True,
        rotate90=True,
        scale=(0.5, 2.0),
        rotation_deg=20.0,
        gamma=0.4,
        brightness=0.25,
        contrast=0.25,
        blur_probability=0.15,
        noise=0.3,
        noise_probability=0.2,
        invert_probability=0.15,
        colour_probability=0.25,
        grey_probability=0.1,
    ),
    "fluorescence": Recipe(
        flip_horizontal=True,
        flip_vertical=True,
        rotate90=True,
        scale=(0.5, 2.0),
        rotation_deg=20.0,
        gamma=0.4,
        brightness=0.25,
        contrast=0.25,
        blur_probability=0.2,
        noise=0.4,
        noise_probability=0.25,
    ),
    "em": Recipe(
        flip_horizontal=True,
        flip_vertical=True,
        rotate90=True,
        scale=(0.8, 1.25),
        rotation_deg=20.0,
        elastic_probability=0.2,
        gamma=0.25,
        brightness=0.2,
        contrast=0.2,
        blur_probability=0.1,
        noise=0.3,
        noise_probability=0.2,
    ),
    "xray": Recipe(
        scale=(0.85, 1.2),
        rotation_deg=10.0,
        shift=0.06,
        elastic_probability=0.1,
        gamma=0.4,
        brightness=0.2,
        contrast=0.25,
        blur_probability=0.1,
        noise=0.2,
        noise_probability=0.2,
    ),
    "photo": Recipe(
        flip_horizontal=True,
        scale=(0.7, 1.4),
        rotation_deg=15.0,
        shift=0.05,
        gamma=0.3,
        brightness=0.25,
        contrast=0.25,
        blur_probability=0.1,
        noise=0.2,
        noise_probability=0.15,
        colour_probability=0.3,
    ),
}


@dataclass(frozen=True)
class AugmentConfig:
    """The ``augment`` group of a training configuration.

    ``kind`` picks a recipe, ``strength`` scales it (0: nothing is altered), and any other value
    replaces the recipe's; their meaning stands at ``Recipe``. ``auto`` is ``xray`` where class
    names say left or right, else ``microscopy``.
    """

    kind: Kind = "auto"
    strength: float = 1.0
    flip_horizontal: bool | None = None
    flip_vertical: bool | None = None
    rotate90: bool | None = None
    scale: tuple[float, float] | None = None
    rotation_deg: float | None = None
    shift: float | None = None
    elastic_probability: float | None = None
    gamma: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    blur_probability: float | None = None
    noise: float | None = None
    noise_probability: float | None = None
    invert_probability: float | None = None
    colour_probability: float | None = None
    grey_probability: float | None = None

    def __post_init__(self) -> None:
        if self.kind != "auto" and self.kind not in RECIPES:
            raise ValueError(f"kind must be auto or one of {', '.join(RECIPES)}, got {self.kind!r}")
        if not 0 <= self.strength <= 3:
            raise ValueError(f"strength must lie in 0..3, got {self.strength}")
        self.recipe(class_names=(), channels=1)  # so that a wrong value fails here, by its name

    def recipe(self, *, class_names: Sequence[str], channels: int) -> Recipe:
        """Return what to do with images of ``channels`` channels and these classes.

        Mirroring exchanges left and right, so classes named after a side turn every mirroring and
        quarter turn off, whatever the kind, unless this config asks for it by name.
        """
        sided = any(SIDED.search(name) for name in class_names)
        kind = self.kind if self.kind != "auto" else ("xray" if sided else "microscopy")
        recipe = _scaled(RECIPES[kind], self.strength)
        if sided:
            recipe = replace(recipe, flip_horizontal=False, flip_vertical=False, rotate90=False)
        if channels != 3:
            recipe = replace(recipe, colour_probability=0.0, grey_probability=0.0)
        own: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(Recipe)
            if getattr(self, field.name) is not None
        }
        if channels != 3:
            own = {name: v for name, v in own.items() if not name.startswith(("colour", "grey"))}
        return replace(recipe, **own)


def _scaled(recipe: Recipe, strength: float) -> Recipe:
    if strength == 0:
        return Recipe()
    changed: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "scale":
            changed["scale"] = tuple(math.exp(math.log(side) * strength) for side in value)
        elif field.name.endswith("_probability"):
            changed[field.name] = min(1.0, value * strength)
        elif isinstance(value, float):
            changed[field.name] = value * strength
    return replace(recipe, **changed)
