"""From figures to careful sentences: what the data tell, what they do not, and why not.

"Better" and "worse" are said only where the test holds after Holm's correction and all seeds have
one sign; everything else says what stands in the way and how large a difference could hide.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from training.report.wording import metric_label
from training.study.analyse import Analysis
from training.study.contrast import SIGNIFICANT, Effect, independent_cases
from training.study.fresh_nets import fresh_answer
from training.study.standing import runs_of, tries_of

MINUS = "\N{MINUS SIGN}"
IMAGE_METRICS = {"loss_nats": "cross-entropy in nats", "error": "share of wrong pixels"}
FEWEST_SEEDS = 3


def answer(analysis: Analysis) -> list[str]:
    """Return three sentences: what is told apart, what is not, and how far to trust it."""
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
    if told:
        found.append(
            _capital(
                "; ".join(
                    (f"on {dataset}, " if several else "") + _clause(effect)
                    for dataset, effect in told
                )
            )
            + "."
        )
    elif silent:
        found.append(_seen(silent, several=several))
    if silent:
        found.append(_silence(silent, several=several, after=bool(told)))
    elif told:
        found.append(
            f"All {len(told)} comparisons of Dice hold after correction and in every seed."
        )
    found.append(_trust(analysis))
    return found


def sentence(effect: Effect) -> str:
    """Return what one comparison says, with its figures."""
    mean, ci95 = effect.mean, effect.summary.ci95
    what, unit = _what(effect), metric_name(effect.metric)
    if mean is None or effect.test is None or effect.p_holm is None:
        return f"{what}: no image has a score in all of the runs compared."
    size = f"{signed(mean, effect.metric)} {unit}"
    interval = "" if ci95 is None else f"95 % CI {_range(ci95, effect.metric)}; "
    figures = (
        f"{interval}{p_text(effect.p_holm)}{_after_holm(effect)}; the same sign in "
        f"{effect.agreeing} of {_count(effect.seeds, 'seed')}"
    )
    if effect.told:
        return f"{_verdict(effect)} ({figures}).{_seed_caution(effect)}"
    if effect.least_p_holm > SIGNIFICANT:
        return (
            f"{what}: {size} ({figures}). {_capital(_units(effect))} cannot tell this from chance, "
            f"as p cannot come out below {effect.least_p_holm:.3g}, however large the difference."
        )
    if effect.p_holm <= SIGNIFICANT:
        return (
            f"{what}: {size} ({figures}). On these images it is more than chance, but seeds "
            "disagree in sign: another training may turn it round."
        )
    hidden = (
        ""
        if ci95 is None
        else f"; on other images with these nets one beyond {_hidden(effect)} is unlikely"
    )
    return f"{what}: {size} ({figures}). The data do not tell this from no difference{hidden}."


def cautions(analysis: Analysis) -> list[str]:
    """Return what a reader must know before any figure, worst first."""
    record, config = analysis.record, analysis.record.config
    found: list[str] = []
    tries, runs = tries_of(record), runs_of(record)
    if tries.missing or runs.missing:
        text = f"{len(runs.missing)} of {_count(len(runs.states), 'run')}"
        if tries.missing:
            text += f" and {len(tries.missing)} of {len(tries.states)} tries of learning rates"
        found.append(
            f"Unfinished: {text} are still to be done. What follows is of the runs so far and will "
            "change."
        )
    if config.exploratory:
        found.append(
            f"Exploratory: {_count(len(config.seeds), 'seed')} for each arm. With fewer than "
            f"{FEWEST_SEEDS}, a difference between arms cannot be told from the luck of one "
            "training; take all that follows as a hint of what to study."
        )
    for dataset in config.datasets:
        for arm in config.all_arms:
            text = _failures(analysis, dataset, arm)
            if text:
                found.append(text)
    for dataset in config.datasets:
        small = _too_small(analysis, dataset)
        if small:
            found.append(small)
    for dataset in config.datasets:
        edges = [rate for rate in analysis.rates.values() if rate.edge and rate.dataset == dataset]
        if edges:
            arms = _list([f"{quoted(rate.arm)} ({rate.chosen:g})" for rate in edges])
            found.append(
                f"On {dataset} the best learning rate was the lowest or highest of those tried for "
                f"{arms}: a better one may lie beyond, and the arm may be able to do more."
            )
    return found


def limits(analysis: Analysis) -> list[str]:
    """Return what the study cannot say, however its figures come out."""
    config, record = analysis.record.config, analysis.record
    seeds = len(config.seeds)
    if not config.steps:
        return [
            "Nothing was trained. A gradient that vanishes or explodes at the start need not stay "
            "so, and one that does not is no promise that a net trains well.",
            f"Gradients are those of one kind of image, one loss and {_count(seeds, 'seed')}.",
        ]
    found = [
        f"It is about {_list(config.datasets)}, nets of this size and {config.steps} steps. An arm "
        "that learns more slowly may catch up with more steps, and another kind of image may turn "
        "the order round.",
        f"With {_count(seeds, 'seed')}, all seeds have one sign by mere luck in 1 of "
        f"{2 ** (seeds - 1)} comparisons without any difference; the tests over images do not "
        "cover that luck."
        if seeds > 1
        else "With one seed nothing is known of the luck of a training.",
        "Where nothing is told apart, the arms may still differ by less than the intervals reach; "
        "that is not the same as being equal.",
    ]
    if len(config.learning_rates) < 2:
        found.append("The learning rate was not tuned, so an arm may suffer from the one it got.")
    else:
        found.append(
            f"Learning rates were tuned over {len(config.learning_rates)} values with a single "
            "training each, so the choice itself is noisy."
        )
    if any(seen["scored_on"] == "val" for seen in record.images.values()):
        found.append(
            "No images were held out: scores are of the validation images on which the learning "
            "rates were chosen, and so a little too good, for all arms."
        )
    return found


def metric_name(metric: str) -> str:
    """Return a metric's name within a sentence."""
    return IMAGE_METRICS.get(metric) or metric_label(metric, "px or mm").split(" (")[0]


def p_text(p: float) -> str:
    """Return ``p = 0.03``; what a permutation test cannot resolve further is said as below."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def quoted(name: str) -> str:
    """Return an arm's name as it stands in a sentence, where ``all`` would be read as a word."""
    return f"“{name}”"


def _verdict(effect: Effect) -> str:
    size = amount(abs(effect.mean or 0.0), effect.metric)
    unit, contrast = metric_name(effect.metric), effect.contrast
    better = "better" if effect.improves else "worse"
    if contrast.role == "interaction":
        return (
            f"{_what(effect)}: {signed(effect.mean or 0.0, effect.metric)} {unit}, beyond what "
            "the two do each alone"
        )
    than = f"than {quoted(contrast.against)} by {size} {unit}"
    middle = ", the other factors averaged," if contrast.role == "main" else ""
    return f"{_of_class(effect)}{quoted(contrast.name)}{middle} is {better} {than}"


def _clause(effect: Effect) -> str:
    p = "" if effect.p_holm is None else f", {p_text(effect.p_holm)}"
    ci95 = effect.summary.ci95
    interval = "" if ci95 is None else f"95 % CI of the difference {_range(ci95, effect.metric)}"
    return f"{_verdict(effect)} ({interval}{p})"


def _seen(silent: Sequence[tuple[str, Effect]], *, several: bool) -> str:
    """Return what was seen where nothing is significant."""
    text = f"The data settle none of the {len(silent)} comparisons of Dice"
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
    return f"{text}; seen with one sign in every seed{held}: {_list(steady)}."


def _silence(silent: Sequence[tuple[str, Effect]], *, several: bool, after: bool) -> str:
    tiny = [(d, e) for d, e in silent if e.least_p_holm > SIGNIFICANT]
    if len(tiny) == len(silent) and not after:
        parts = []
        for dataset in dict.fromkeys(d for d, _ in tiny):
            one = next(e for d, e in tiny if d == dataset)
            parts.append(
                (f"on {dataset}, " if several else "")
                + f"{_units(one)} cannot give a p below {one.least_p_holm:.2g} after correction"
            )
        return (
            _capital("; ".join(parts))
            + ", so that only the size of the differences and their sign over seeds can be read."
        )
    names = _list(
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
    images = _list(
        [
            f"{_count(independent_cases(record.scores(d, 'dice', kind)), 'image or group')} of {d}"
            if any(record.scores(d, "dice", kind).groups)
            else f"{_count(len(record.scores(d, 'dice', kind).stems), 'image')} of {d}"
            for d in config.datasets
            if (kind := analysis.main_kind(d)) is not None
        ]
    )
    bad = sum(run.state in ("collapsed", "diverged", "failed") for run in record.runs)
    rate = "tuned" if len(config.learning_rates) > 1 else "not tuned"
    text = (
        f"This rests on {images} and {_count(len(config.seeds), 'seed')} of {config.steps} steps "
        f"with the learning rate {rate} for each arm"
    )
    if bad:
        text += f"; {bad} of {len(record.runs)} runs collapsed, diverged or failed"
    return text + ("; it is exploratory." if config.exploratory else ".")


def _failures(analysis: Analysis, dataset: str, arm: str) -> str:
    states = analysis.states(dataset, arm)
    if not analysis.record.config.steps:
        # A net that was not trained cannot be said to have collapsed.
        states = Counter({"failed": states["failed"]})
    total = len(analysis.record.runs_of(dataset, arm))
    parts = []
    if states["collapsed"]:
        parts.append(
            f"{states['collapsed']} of {_count(total, 'run')} answered one class "
            "everywhere (collapsed) and count with the Dice of that"
        )
    if states["diverged"]:
        parts.append(
            f"{states['diverged']} of {_count(total, 'run')} diverged to values that are no "
            "numbers, and count with what they answer"
        )
    if states["failed"]:
        parts.append(
            f"{states['failed']} of {_count(total, 'run')} could not be finished and are missing "
            "from its mean"
        )
    if not parts:
        return ""
    kind = analysis.main_kind(dataset)
    estimate = None if kind is None else analysis.estimate(dataset, "dice", kind, arm)
    good = (
        []
        if estimate is None
        else [
            estimate.by_seed[run.seed]
            for run in analysis.record.runs_of(dataset, arm)
            if run.state == "done" and run.seed in estimate.by_seed
        ]
    )
    rest = ""
    if estimate is not None and estimate.summary.mean is not None:
        rest = f" Its mean Dice with them is {estimate.summary.mean:.3f}"
        rest += f", without them {sum(good) / len(good):.3f}." if good else "; no run ended well."
    return f"{quoted(arm)} on {dataset}: {'; '.join(parts)}.{rest}"


def _too_small(analysis: Analysis, dataset: str) -> str:
    kind = analysis.main_kind(dataset)
    effects = [] if kind is None else analysis.effects_of(dataset, "dice", kind)
    few = [e for e in effects if e.least_p_holm > SIGNIFICANT]
    if not few:
        return ""
    return (
        f"{dataset} is scored on {_units(few[0])}: p cannot come out below "
        f"{few[0].least_p:.3g}, {few[0].least_p_holm:.2g} after Holm over "
        f"{_count(few[0].family, 'comparison')}, so no difference between its arms can be "
        "significant here, however large. What can be read is its size, its interval and whether "
        "all seeds have one sign."
    )


def _seed_caution(effect: Effect) -> str:
    over = effect.seeds_ci95
    if over is None:
        return " One seed cannot say how much of it another training would keep."
    if over[0] <= 0 <= over[1]:
        return (
            f" Seeds alone put it anywhere from {_range(over, effect.metric)} (Student's interval "
            f"over {_count(effect.seeds, 'seed')}), so its size is not settled."
        )
    return ""


def _what(effect: Effect) -> str:
    contrast = effect.contrast
    if contrast.role == "interaction":
        text = f"{quoted(contrast.name)} together, against each alone (interaction)"
    elif contrast.role == "main":
        text = f"{quoted(contrast.name)} instead of {quoted(contrast.against)}"
    else:
        text = f"{quoted(contrast.name)} against {quoted(contrast.against)}"
    return _of_class(effect) + text


def _of_class(effect: Effect) -> str:
    return "" if effect.overall else f"{effect.kind}: "


def _after_holm(effect: Effect) -> str:
    return "" if effect.family == 1 else f" after Holm over {effect.family} comparisons"


def _units(effect: Effect) -> str:
    groups = effect.summary.groups
    if groups is None:
        return _count(effect.summary.cases, "image")
    return f"{_count(groups, 'group')} of {_count(effect.summary.cases, 'image')}"


def _hidden(effect: Effect) -> str:
    low, high = effect.summary.ci95 or (0.0, 0.0)
    return amount(max(abs(low), abs(high)), effect.metric)


def _range(interval: tuple[float, float], metric: str) -> str:
    return f"{signed(interval[0], metric)} to {signed(interval[1], metric)}"


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign; none where it rounds to nothing."""
    text = amount(abs(value), metric)
    return text if not text.strip("0.") else f"{MINUS if value < 0 else '+'}{text}"


def amount(value: float, metric: str) -> str:
    """Return a value with the digits of its metric."""
    return f"{value:.{digits_of(metric)}f}"


def digits_of(metric: str) -> int:
    """Return digits after the point: of shares three, of lengths one, of errors four."""
    if metric in ("hd95", "assd"):
        return 1
    return 4 if metric in IMAGE_METRICS else 3


def _count(n: int, noun: str) -> str:
    if noun == "image or group":
        return f"{n} groups of images" if n != 1 else "1 group of images"
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _list(items: Iterable[str]) -> str:
    names = list(items)
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
