"""A study's answer: what is told apart, what is not, and how far to trust it."""

from collections.abc import Sequence

from training.study.analyse import Analysis
from training.study.contrast import SIGNIFICANT, Effect, independent_cases
from training.study.fresh_nets import fresh_answer
from training.study.phrases import (
    amount,
    capital,
    count,
    least_p_text,
    listed,
    p_text,
    quoted,
    signed,
)
from training.study.sentence import interval_text, units, verdict
from training.study.shifted import shift_answer

FEWEST_SEEDS = 3


def answer(analysis: Analysis) -> list[str]:
    """Return what is told apart, what is not, what shifted images add, and how far to trust it."""
    record = analysis.record
    if not record.config.steps:
        return fresh_answer(analysis)
    if not analysis.estimates:
        return ["No run has been scored yet, so there is no answer yet."]
    factors = bool(record.config.factors)
    by_dataset = {
        dataset: analysis.effects_of(dataset, "dice", kind, factors=factors)
        or analysis.effects_of(dataset, "dice", kind)
        for dataset in record.config.datasets
        if (kind := analysis.main_kind(dataset)) is not None
    }
    several = len(record.config.datasets) > 1
    told = [(d, e) for d, effects in by_dataset.items() for e in effects if e.told]
    silent = [(d, e) for d, effects in by_dataset.items() for e in effects if not e.told]
    found: list[str] = []
    met = [pair for pair in told if pair[1].contrast.role == "interaction"]
    if len(met) == 1:
        met = []  # one is told like any other
    clauses = [
        (f"on {dataset}, " if several else "") + _clause(effect)
        for dataset, effect in told
        if (dataset, effect) not in met
    ]
    if clauses:
        found.append(capital("; ".join(clauses)) + ".")
    if met:
        found.append(_together(met, several=several))
    if not told and silent:
        found.append(_seen(silent, several=several))
    if silent:
        found.append(_silence(silent, several=several, after=bool(told)))
    elif told:
        hold = f"All {len(told)} comparisons of Dice hold"
        if len(told) == 1:
            hold = "The one comparison of Dice holds"
        found.append(f"{hold} after correction and in every seed.")
    found += [text for text in (shift_answer(analysis),) if text]
    found.append(_trust(analysis))
    return found


def _together(met: Sequence[tuple[str, Effect]], *, several: bool) -> str:
    """Return the interactions in one sentence; each has its own in the findings."""
    sizes = [
        f"{quoted(e.contrast.name)} {signed(e.mean or 0.0, 'dice')}"
        + (f" on {dataset}" if several else "")
        for dataset, e in met
    ]
    return f"Together they do more or less than each alone (interactions, Dice): {listed(sizes)}."


def _clause(effect: Effect) -> str:
    p = "" if effect.p_holm is None else f", {p_text(effect.p_holm)}"
    ci95 = effect.summary.ci95
    interval = (
        "" if ci95 is None else f"95 % CI of the difference {interval_text(ci95, effect.metric)}"
    )
    # Of Dice, which has no unit.
    return f"{verdict(effect, '')} ({interval}{p})"


def _seen(silent: Sequence[tuple[str, Effect]], *, several: bool) -> str:
    """Return what was seen where nothing is significant."""
    text = (
        "The data do not settle the one comparison of Dice"
        if len(silent) == 1
        else f"The data settle none of the {len(silent)} comparisons of Dice"
    )
    steady = [
        f"{quoted(e.contrast.name)} {signed(e.mean, 'dice')}" + (f" on {d}" if several else "")
        for d, e in sorted(silent, key=lambda pair: -abs(pair[1].mean or 0.0))
        if e.mean is not None and e.agreeing == e.seeds >= FEWEST_SEEDS
    ]
    if not steady:
        few = silent[0][1].seeds < FEWEST_SEEDS
        why = "seeds are too few to agree" if few else "no difference has one sign in all seeds"
        return f"{text}, and {why}."
    held = (
        ""
        if silent[0][1].contrast.role != "arm"
        else (f" against {quoted(silent[0][1].contrast.against)}")
    )
    return f"{text}; seen with one sign in every seed{held}: {listed(steady)}."


def _silence(silent: Sequence[tuple[str, Effect]], *, several: bool, after: bool) -> str:
    tiny = [(d, e) for d, e in silent if e.least_p_holm > SIGNIFICANT]
    if len(tiny) == len(silent) and not after:
        parts = []
        for dataset in dict.fromkeys(d for d, _ in tiny):
            one = next(e for d, e in tiny if d == dataset)
            parts.append(
                (f"on {dataset}, " if several else "")
                + f"{units(one)} cannot give a p below {least_p_text(one.least_p_holm)}"
                + (" after correction" if one.family > 1 else "")
            )
        return (
            capital("; ".join(parts))
            + ", so that only the size of the differences and their sign over seeds can be read."
        )
    names = listed(
        [
            quoted(e.contrast.name) + (f" on {d}" if several else "")
            for d, e in silent
            if e.mean is not None
        ]
    )
    widest = max(
        (max(map(abs, e.summary.ci95)) for _, e in silent if e.summary.ci95 is not None),
        default=None,
    )
    bound = (
        ""
        if widest is None
        else f"; with these nets, differences beyond {amount(widest, 'dice')} are unlikely"
    )
    return f"The data do not tell {names} from what each is held against{bound}."


def _trust(analysis: Analysis) -> str:
    record, config = analysis.record, analysis.record.config
    images = listed(
        [
            f"{count(independent_cases(record.scores(d, 'dice', kind)), 'image or group')} of {d}"
            if any(record.scores(d, "dice", kind).groups)
            else f"{count(len(record.scores(d, 'dice', kind).stems), 'image')} of {d}"
            for d in config.datasets
            if (kind := analysis.main_kind(d)) is not None
        ]
    )
    bad = sum(run.state in ("collapsed", "diverged", "failed") for run in record.runs)
    rate = "tuned" if len(config.learning_rates) > 1 else "not tuned"
    text = (
        f"This rests on {images} and {count(len(config.seeds), 'seed')} of {config.steps} steps "
        f"with the learning rate {rate} for each arm"
    )
    if bad:
        text += f"; {bad} of {count(len(record.runs), 'run')} collapsed, diverged or failed"
    return text + ("; it is exploratory." if config.exploratory else ".")
