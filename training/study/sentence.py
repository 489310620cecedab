"""One comparison in a sentence: what it says, what it does not, and why not.

"Better" and "worse" are said only where the test holds after Holm's correction and all seeds have
one sign; everything else says what stands in the way and how large a difference could hide.
"""

from training.study.contrast import SIGNIFICANT, Effect
from training.study.phrases import (
    amount,
    capital,
    count,
    least_p_text,
    metric_name,
    p_text,
    quoted,
    signed,
)


def sentence(effect: Effect, length_unit: str) -> str:
    """Return what one comparison says, with its figures."""
    mean, ci95 = effect.mean, effect.summary.ci95
    about, unit = what(effect), metric_name(effect.metric, length_unit)
    if mean is None or effect.test is None or effect.p_holm is None:
        return f"{about}: no image has a score in all of the runs compared."
    size = f"{signed(mean, effect.metric)} {unit}"
    interval = "" if ci95 is None else f"95 % CI {interval_text(ci95, effect.metric)}; "
    figures = (
        f"{interval}{p_text(effect.p_holm)}{_after_holm(effect)}; the same sign in "
        f"{effect.agreeing} of {count(effect.seeds, 'seed')}"
    )
    if effect.told:
        return f"{verdict(effect, length_unit)} ({figures}).{_seed_caution(effect)}"
    if effect.least_p_holm > SIGNIFICANT:
        return (
            f"{about}: {size} ({figures}). {capital(units(effect))} cannot tell this from chance, "
            f"as p cannot come out below {least_p_text(effect.least_p_holm)}, however large the "
            "difference."
        )
    if effect.p_holm <= SIGNIFICANT:
        return (
            f"{about}: {size} ({figures}). On these images it is more than chance, but seeds "
            "disagree in sign: another training may turn it round."
        )
    hidden = (
        ""
        if ci95 is None
        else f"; on other images with these nets one beyond {_hidden(effect)} is unlikely"
    )
    return f"{about}: {size} ({figures}). The data do not tell this from no difference{hidden}."


def verdict(effect: Effect, length_unit: str) -> str:
    """Return which is better or worse and by how much, of an effect that is told apart."""
    size = amount(abs(effect.mean or 0.0), effect.metric)
    unit, contrast = metric_name(effect.metric, length_unit), effect.contrast
    better = "better" if effect.improves else "worse"
    if contrast.role == "interaction":
        return (
            f"{what(effect)}: {signed(effect.mean or 0.0, effect.metric)} {unit}, beyond what "
            "the two do each alone"
        )
    than = f"than {quoted(contrast.against)} by {size} {unit}"
    middle = ", the other factors averaged," if contrast.role == "main" else ""
    return f"{of_class(effect)}{quoted(contrast.name)}{middle} is {better} {than}"


def units(effect: Effect) -> str:
    """Return how many images, or groups of them, it rests on."""
    groups = effect.summary.groups
    if groups is None:
        return count(effect.summary.cases, "image")
    return f"{count(groups, 'group')} of {count(effect.summary.cases, 'image')}"


def interval_text(interval: tuple[float, float], metric: str) -> str:
    """Return both ends with their signs."""
    return f"{signed(interval[0], metric)} to {signed(interval[1], metric)}"


def _seed_caution(effect: Effect) -> str:
    over = effect.seeds_ci95
    if over is None:
        return " One seed cannot say how much of it another training would keep."
    if over[0] <= 0 <= over[1]:
        return (
            f" Seeds alone put it anywhere from {interval_text(over, effect.metric)} (Student's "
            f"interval over {count(effect.seeds, 'seed')}), so its size is not settled."
        )
    return ""


def what(effect: Effect) -> str:
    """Return what is held against what."""
    contrast = effect.contrast
    if contrast.role == "interaction":
        text = f"{quoted(contrast.name)} together, against each alone (interaction)"
    elif contrast.role == "main":
        text = f"{quoted(contrast.name)} instead of {quoted(contrast.against)}"
    else:
        text = f"{quoted(contrast.name)} against {quoted(contrast.against)}"
    return of_class(effect) + text


def of_class(effect: Effect) -> str:
    """Return the class that it is about, and nothing for the overall score."""
    return "" if effect.overall else f"{effect.kind}: "


def _after_holm(effect: Effect) -> str:
    return "" if effect.family == 1 else f" after Holm over {effect.family} comparisons"


def _hidden(effect: Effect) -> str:
    low, high = effect.summary.ci95 or (0.0, 0.0)
    return amount(max(abs(low), abs(high)), effect.metric)
