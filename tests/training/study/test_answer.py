"""Words for figures: nothing is claimed that the figures do not carry."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.metrics import Summary
from contract.paired import PermutationTest
from tests.training.study.building import build_study
from training.study.analyse import Analysis, analyse
from training.study.answer import answer
from training.study.cautions import cautions, limits
from training.study.contrast import Contrast, Effect
from training.study.record import read_record
from training.study.sentence import sentence

STUDY: dict[str, Any] = {
    "name": "words",
    "question": "Which?",
    "datasets": {"a": {}},
    "arms": {"all": {"net.x": 1}, "none": {"net.x": 2}},
    "reference": "all",
    "steps": 10,
    "seeds": [0, 1, 2],
    "metrics": [],
}
TWENTY = [0.70 + 0.01 * case for case in range(20)]


def analysed(
    parent: Path, none: dict[int, list[float]], study: dict[str, Any] = STUDY, **options: Any
) -> Analysis:
    """Return a study of the arm ``all``, the same in each seed, and of ``none``."""
    cases = len(next(iter(none.values())))
    scores = {("a", "all", s): [[v] for v in TWENTY[:cases]] for s in study["seeds"]}
    scores |= {("a", "none", seed): [[v] for v in row] for seed, row in none.items()}
    return analyse(read_record(build_study(parent, study, scores, **options)))


def lower(by: float, cases: int = 20) -> list[float]:
    # Not the same in all cases, as no test would then have anything to weigh.
    return [value - by - 0.001 * (case % 3) for case, value in enumerate(TWENTY[:cases])]


def test_a_difference_in_every_image_and_seed_is_told_with_its_figures(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {0: lower(0.05), 1: lower(0.06), 2: lower(0.05)})
    (effect,) = analysis.effects_of("a", "dice", "cell")
    text = sentence(effect, "px")
    assert text.startswith("“none” is worse than “all” by 0.054 Dice (95 % CI \N{MINUS SIGN}0.05")
    assert "p < 0.001" in text
    assert "in 3 of 3 seeds" in text
    assert "“none” is worse than “all” by 0.054" in answer(analysis)[0]
    assert "20 images of a and 3 seeds" in answer(analysis)[-1]


def test_few_images_can_tell_nothing_however_large_the_difference(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {seed: lower(0.5, cases=4) for seed in range(3)})
    (effect,) = analysis.effects_of("a", "dice", "cell")
    assert "p cannot come out below 0.125, however large" in sentence(effect, "px")
    assert "worse" not in sentence(effect, "px")
    assert answer(analysis)[0].startswith("The data do not settle the one comparison of Dice")
    assert answer(analysis)[1].startswith("4 images cannot give a p below 0.125, so that only")
    assert (
        "a is scored on 4 images: p cannot come out below 0.125, so no difference between its "
        "arms can be significant here, however large. What can be read is its size, its interval "
        "and whether all seeds have one sign."
    ) in cautions(analysis)


def test_the_smallest_p_is_said_with_the_same_digits_before_and_after_holm(tmp_path: Path) -> None:
    arms = {"all": {"net.x": 1}, "none": {"net.x": 2}, "few": {"net.x": 3}}
    few = {("a", "few", s): [[v - 0.1] for v in TWENTY[:6]] for s in range(3)}
    scores = few | {
        ("a", arm, s): [[v - by] for v in TWENTY[:6]]
        for arm, by in (("all", 0), ("none", 0.2))
        for s in range(3)
    }
    analysis = analyse(read_record(build_study(tmp_path, STUDY | {"arms": arms}, scores)))

    (said,) = [text for text in cautions(analysis) if "cannot come out below" in text]

    assert "below 0.0312, 0.0625 after Holm over 2 comparisons, so no" in said
    assert "a p below 0.0625 after correction" in answer(analysis)[1]
    assert "settle none of the 2 comparisons" in answer(analysis)[0]


def test_one_comparison_that_holds_is_one(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {0: lower(0.05), 1: lower(0.06), 2: lower(0.05)})
    assert answer(analysis)[1] == (
        "The one comparison of Dice holds after correction and in every seed."
    )


def test_seeds_that_disagree_are_not_made_a_finding(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {0: lower(0.2), 1: lower(0.2), 2: lower(-0.05)})
    (effect,) = analysis.effects_of("a", "dice", "cell")
    assert effect.p_holm is not None
    assert effect.p_holm < 0.05
    assert "seeds disagree in sign" in sentence(effect, "px")
    assert "worse" not in " ".join([sentence(effect, "px"), *answer(analysis)])


def test_no_difference_says_how_large_a_one_could_hide(tmp_path: Path) -> None:
    noisy = [value + (0.01 if case % 2 else -0.01) for case, value in enumerate(TWENTY)]
    analysis = analysed(tmp_path, dict.fromkeys(range(3), noisy))
    (effect,) = analysis.effects_of("a", "dice", "cell")
    assert (
        "do not tell this from no difference; on other images with these nets one beyond 0.00"
        in sentence(effect, "px")
    )
    assert "do not tell “none”" in answer(analysis)[1]


def test_fewer_than_three_seeds_are_exploratory(tmp_path: Path) -> None:
    study = STUDY | {"seeds": [0, 1]}
    analysis = analysed(tmp_path, {0: lower(0.05), 1: lower(0.05)}, study)
    assert cautions(analysis)[0].startswith("Exploratory: 2 seeds")
    assert answer(analysis)[-1].endswith("it is exploratory.")


def test_a_study_midway_says_so_first(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {0: lower(0.05)})
    assert cautions(analysis)[0].startswith("Unfinished: 2 of 6 runs are still to be done")


def test_collapsed_runs_are_counted_in_words_with_and_without(tmp_path: Path) -> None:
    scores = {0: lower(0.05), 1: [0.0] * 20}
    states = {("a", "none", 1): "collapsed", ("a", "none", 2): "failed"}
    analysis = analysed(tmp_path, scores, states=states)
    (text,) = [text for text in cautions(analysis) if text.startswith("“none” on a")]
    assert "1 of 3 runs answered one class everywhere (collapsed)" in text
    assert "1 of 3 runs could not be finished" in text
    assert "with them is 0.372, without them 0.744" in text
    assert "2 of 6 runs collapsed, diverged or failed" in answer(analysis)[-1]


def test_a_rate_at_the_edge_is_a_caution(tmp_path: Path) -> None:
    study = STUDY | {"learning_rates": [0.1, 0.2]}
    sweep = {("a", "none", 0.1): 0.4, ("a", "none", 0.2): 0.5}
    analysis = analysed(tmp_path, {s: lower(0.1) for s in range(3)}, study, sweep=sweep)
    assert any("lowest or highest of those tried for “none” (0.2)" in t for t in cautions(analysis))


def test_nothing_scored_is_no_answer(tmp_path: Path) -> None:
    analysis = analyse(read_record(build_study(tmp_path, STUDY, {})))
    assert answer(analysis) == ["No run has been scored yet, so there is no answer yet."]


def test_limits_count_the_luck_of_seeds(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {s: lower(0.1) for s in range(3)})
    assert any("by mere luck in 1 of 4 comparisons" in text for text in limits(analysis))


@given(
    mean=st.floats(-0.5, 0.5),
    p=st.floats(1e-5, 1),
    signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=1, max_size=4),
    metric=st.sampled_from(["dice", "hd95", "error"]),
)
def test_better_and_worse_are_said_of_told_effects_only(
    mean: float, p: float, signs: list[float], metric: str
) -> None:
    effect = Effect(
        dataset="d",
        metric=metric,
        kind="k",
        contrast=Contrast("arm", "b", "a", {"b": 1, "a": -1}),
        summary=Summary(mean, (mean - 0.1, mean + 0.1), 30, 0),
        by_seed={i: sign * abs(mean) for i, sign in enumerate(signs)},
        one_scored=0,
        test=PermutationTest(p, exact=False),
        p_holm=p,
    )
    text = sentence(effect, "px")
    assert ("is better" in text or "is worse" in text) == effect.told
    if effect.told:
        assert p <= 0.05
        assert set(signs) == {1.0 if mean > 0 else -1.0}
        assert ("is better" in text) == ((mean > 0) == (metric == "dice"))


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_says_that_it_is_one(tmp_path: Path, seeds: int) -> None:
    study = STUDY | {"seeds": list(range(seeds))}
    analysis = analysed(tmp_path, {s: lower(0.05) for s in range(seeds)}, study)
    (effect,) = analysis.effects_of("a", "dice", "cell")
    assert ("One seed cannot say" in sentence(effect, "px")) == (seeds == 1)
