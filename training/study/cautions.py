"""What a reader must know before any figure of a study, and what none of them can say."""

from collections import Counter

from training.study.analyse import Analysis
from training.study.answer import FEWEST_SEEDS
from training.study.contrast import SIGNIFICANT
from training.study.phrases import count, least_p_text, listed, quoted
from training.study.sentence import units
from training.study.standing import runs_of, tries_of


def cautions(analysis: Analysis) -> list[str]:
    """Return what a reader must know before any figure, worst first."""
    record, config = analysis.record, analysis.record.config
    found: list[str] = []
    tries, runs = tries_of(record), runs_of(record)
    if tries.missing or runs.missing:
        text = f"{len(runs.missing)} of {count(len(runs.states), 'run')}"
        if tries.missing:
            text += f" and {len(tries.missing)} of {len(tries.states)} tries of learning rates"
        found.append(
            f"Unfinished: {text} are still to be done. What follows is of the runs so far and will "
            "change."
        )
    if config.exploratory:
        found.append(
            f"Exploratory: {count(len(config.seeds), 'seed')} for each arm. With fewer than "
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
            arms = listed([f"{quoted(rate.arm)} ({rate.chosen:g})" for rate in edges])
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
            f"Gradients are those of one kind of image, one loss and {count(seeds, 'seed')}.",
        ]
    found = [
        f"It is about {listed(config.datasets)}, nets of this size and {config.steps} steps. An "
        "arm that learns more slowly may catch up with more steps, and another kind of image may "
        "turn the order round.",
        f"With {count(seeds, 'seed')}, all seeds have one sign by mere luck in 1 of "
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


def _failures(analysis: Analysis, dataset: str, arm: str) -> str:
    states = analysis.states(dataset, arm)
    if not analysis.record.config.steps:
        # A net that was not trained cannot be said to have collapsed.
        states = Counter({"failed": states["failed"]})
    total = len(analysis.record.runs_of(dataset, arm))
    parts = []
    if states["collapsed"]:
        parts.append(
            f"{states['collapsed']} of {count(total, 'run')} answered one class "
            "everywhere (collapsed) and count with the Dice of that"
        )
    if states["diverged"]:
        parts.append(
            f"{states['diverged']} of {count(total, 'run')} diverged to values that are no "
            "numbers, and count with what they answer"
        )
    if states["failed"]:
        parts.append(
            f"{states['failed']} of {count(total, 'run')} could not be finished and are missing "
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
    after = ""
    if few[0].family > 1:
        after = f", {least_p_text(few[0].least_p_holm)} after Holm over {few[0].family} comparisons"
    return (
        f"{dataset} is scored on {units(few[0])}: p cannot come out below "
        f"{least_p_text(few[0].least_p)}{after}, so no difference between its arms can be "
        "significant here, however large. What can be read is its size, its interval and whether "
        "all seeds have one sign."
    )
