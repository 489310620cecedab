"""Images that are not what they seem: depth, alpha, nothing in them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from training.data.findings import Finding
from training.data.glance import Glance
from training.data.survey import Survey

# A 16-bit image within the range of 8 bits is odd where the others use this much of 16.
WIDE_RANGE = 4096


def surprises(surveyed: Survey) -> Iterator[Finding]:
    """Yield what is odd about the images that could be read."""
    seen = [
        (case.image, item.glance)
        for case, item in zip(surveyed.cases, surveyed.seen, strict=True)
        if item.glance is not None
    ]
    for path, glance in seen:
        if glance.low == glance.high:
            yield Finding(
                path,
                "blank-image",
                "an image of one single value",
                "take it out, or save it again from its source",
                f"value {glance.low:g}",
                "warning",
            )
        if glance.alpha == "see-through":
            yield Finding(
                path,
                "see-through",
                "an alpha channel that hides the whole image, partly or fully, in a viewer",
                "save it without alpha; the net sees the pixels under it",
                severity="warning",
            )
        if glance.alpha == "varying" and surveyed.spec.channels is None:
            yield Finding(
                path,
                "varying-alpha",
                "an alpha channel that differs from pixel to pixel is taken for a channel",
                "set channels: 3 (grey: 1) in dataset.yaml to drop it, or channels: 4 (grey: 2) "
                "if it was measured",
                severity="warning",
            )
    yield from _depth(seen)
    yield from _grey_among_colour(seen)


def _depth(seen: list[tuple[Path, Glance]]) -> Iterator[Finding]:
    counts = Counter(glance.bits for _, glance in seen)
    if len(counts) > 1:
        usual = max(counts, key=lambda bits: (counts[bits], bits))
        for path, glance in seen:
            if glance.bits != usual:
                yield Finding(
                    path,
                    "mixed-depth",
                    f"another depth than most images, which have {usual} bits",
                    "save all images from their source at one depth; their intensities differ by "
                    "a factor",
                    f"{glance.bits} bits",
                    "warning",
                )
    deep = [(path, glance) for path, glance in seen if glance.bits == 16]
    narrow = [path for path, glance in deep if glance.high <= 255]
    if not narrow:
        return
    if len(narrow) == len(deep):
        yield Finding(
            narrow[0],
            "8-in-16",
            "16-bit images whose values stop at 255",
            "nothing, if the source has 8 bits; else save them again without conversion",
            f"all {len(deep)} of them",
            "note",
        )
    elif median(glance.high for _, glance in deep) >= WIDE_RANGE:
        for path in narrow:
            yield Finding(
                path,
                "8-in-16",
                "16 bits whose values stop at 255, among images that use the range",
                "save it again from its source: it was probably converted to 8 bits once",
                severity="warning",
            )


def _grey_among_colour(seen: list[tuple[Path, Glance]]) -> Iterator[Finding]:
    grey = [path for path, glance in seen if glance.channels == 1]
    if any(glance.channels == 3 for _, glance in seen):
        for path in grey:
            yield Finding(
                path,
                "grey-among-colour",
                "grey among colour images",
                "nothing: grey is repeated three times",
                severity="note",
            )
