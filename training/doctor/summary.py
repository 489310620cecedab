"""The fingerprint of a data set in lines for people: the same on the terminal and on the page."""

from collections.abc import Iterator, Sequence

from training.doctor.examination import Examination
from training.doctor.record import facts_of


def summary_rows(examined: Examination) -> Iterator[tuple[str, str]]:
    """Yield (what, how much) of sizes, intensities, classes and objects."""
    facts = facts_of(examined)
    read = facts["read"]
    yield "images", str(facts["pairs"]) + ("" if read == facts["pairs"] else f", {read} readable")
    if not read:
        return
    (h0, h1, h2), (w0, w1, w2) = facts["height_px"], facts["width_px"]
    one = facts["sizes"] == 1
    spread = f"{h0} x {w0} to {h2} x {w2}, median {h1:g} x {w1:g}, {facts['sizes']} sizes"
    yield "size, H x W px", f"{h0} x {w0}, all the same" if one else spread
    yield "channels", _listed(facts["channels"]) + _stored(facts)
    yield "bits", _listed(facts["bits"])
    low, high = facts["intensity"]
    yield "intensities", f"{low:g} to {high:g}"
    profile = examined.profile
    if profile is None:
        if examined.coding is not None:
            levels = [_listed(level, "/") for level in examined.coding.levels[:8]]
            yield "mask levels", ", ".join(levels)
        return
    ranges = [f"{a:g} / {b:g} / {c:g}" for a, b, c in profile.intensity_p01_p50_p99]
    yield "1 / 50 / 99 %, by channel", "; ".join(ranges)
    if profile.groups is not None:
        yield "groups", str(profile.groups)
    if not profile.multilabel:
        yield "background", f"{profile.background_fraction:.1%} of the pixels"
    for entry in profile.classes:
        text = f"{entry.pixel_fraction:.1%} of the pixels, in {entry.images} masks"
        if entry.object_area_px is not None and entry.objects_per_image is not None:
            a, b, c = entry.object_area_px
            text += (
                f"; {entry.objects_per_image:g} object(s) in each (median), of {a:.0f} / {b:.0f} / "
                f"{c:.0f} px (5 / 50 / 95 %)"
            )
        yield entry.name, text
    if profile.ignored_fraction:
        yield "ignored", f"{profile.ignored_fraction:.1%} of the pixels"
    if profile.profiled < profile.images:
        yield "", f"intensities and objects are from {profile.profiled} of the images"


def _stored(facts: dict[str, object]) -> str:
    if facts["channels"] == facts["stored_channels"]:
        return ""
    stored = facts["stored_channels"]
    return f" (stored with {_listed(stored if isinstance(stored, list) else [])}: constant alpha)"


def _listed(values: Sequence[object], by: str = ", ") -> str:
    return by.join(str(value) for value in values)
