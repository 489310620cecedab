from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.__main__ import main
from training.fit.config import FitConfig
from training.study.config import (
    GROUPS,
    Given,
    StudyConfig,
    StudyError,
    flat,
    nested,
    preset_names,
    read_option,
    read_study,
)
from training.study.settings import prepare

NOTHING = Given({}, {}, {})


def test_factors_make_every_combination_an_arm(study_of: Callable[..., StudyConfig]) -> None:
    study = study_of(
        arms={},
        factors={
            "short": {"short": {"net.block": "residual"}, "plain": {"net.block": "plain"}},
            "long": {"long": {"net.long_skips": "concat"}, "cut": {"net.long_skips": "none"}},
        },
        reference="short+long",
    )

    assert list(study.all_arms) == ["short+long", "short+cut", "plain+long", "plain+cut"]
    assert study.all_arms["plain+cut"] == {"net.block": "plain", "net.long_skips": "none"}
    assert study.levels_of("plain+cut") == {"short": "plain", "long": "cut"}


def test_options_may_be_nested_or_dotted() -> None:
    assert flat({"net": {"block": "dense"}, "data.patch": [8, 8]}) == {
        "net.block": "dense",
        "data.patch": [8, 8],
    }
    assert nested({"net.block": "dense", "net.norm": "none", "seed": 1}) == {
        "net": {"block": "dense", "norm": "none"},
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reference": "nobody"}, "reference 'nobody' is no arm; the arms are all, none"),
        ({"arms": {}, "reference": "x"}, "nothing to compare"),
        ({"arms": {"all": {}, "none": {}}}, "arms all and none are the same settings"),
        ({"base": {"trainer": {"max_epochs": 3}}}, "base sets trainer.max_epochs"),
        ({"arms": {"all": {"optimiser.lr": 1}, "none": {}}}, "arm all sets optimiser.lr"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"seeds": [1000]}, "seed 1000 is that of the tries"),
        ({"seeds": [2**32]}, "less than or equal to 4294967295"),
        ({"seeds": [True]}, "valid integer"),
        ({"learning_rates": [float("inf")]}, "finite number"),
        ({"learning_rates": [0.001, 0.0010000001]}, "holds a rate twice"),
        ({"arms": {"all": {}, "none": {"data.root": "x"}}}, "arm none sets data.root"),
        ({"base": {"trainer": {"max_time": "00:00:01:00"}}}, "base sets trainer.max_time"),
        (
            {
                "arms": {},
                "factors": {"f": {"a": {}, "a+b": {"x": 1}}, "g": {"b+c": {}, "c": {"y": 1}}},
                "reference": "a+c",
            },
            "two arms have one name",
        ),
        ({"metrics": ["dices"]}, "metrics knows dice, iou"),
        ({"base": {"net": None, "net.widths": [4, 8]}}, "net is a group of options"),
        ({"arms": {"all": {}, "none": {"net": "x"}}}, "got 'x'. Leave it out"),
        ({"datasets": {"a": {"settings": {"data": 3}}}}, "data is a group of options"),
        ({"probes": ["tarot"]}, "probes are"),
        ({"steps": 0, "watch": ["gradient-flow"]}, "no training to watch"),
        ({"arms": {"a/b": {}}, "reference": "a/b"}, "String should match pattern"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(
    study_of: Callable[..., StudyConfig], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=r"validation error") as error:
        study_of(**changed)

    assert said in str(error.value)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    given = Given({"mine": tmp_path}, {"data.batch_size": 3}, {"steps": 7, "seeds": [5]})

    study = read_study("long-skips", given)

    assert (study.steps, study.seeds) == (7, (5,))
    assert study.base["data.batch_size"] == 3
    assert study.datasets["mine"].root == tmp_path


def test_an_unknown_file_lists_the_presets() -> None:
    with pytest.raises(StudyError, match="no preset; presets are depth, long-skips, short-by-long"):
        read_study("long-skip", NOTHING)


def test_a_file_that_is_no_study_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for text, said in (
        ("[1, 2]", "holds no settings"),
        ("a: [", "is no YAML"),
        ("name: x", "arms"),
    ):
        path.write_text(text)
        with pytest.raises(
            StudyError, match=said if said != "arms" else "question: Field required"
        ):
            read_study(str(path), NOTHING)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: {net.block: dense}, a: {}}", "a stands twice"),
        ("base: 5", "options are a mapping"),
        ("datasets: [p]", "datasets maps names to folders"),
    ],
)
def test_a_file_with_other_shapes_is_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: x\nquestion: y\nreference: a\nsteps: 1\n{text}\n")
    with pytest.raises(StudyError, match=said):
        read_study(str(path), NOTHING)


def test_groups_of_options_are_those_of_fit() -> None:
    holders = [f.name for f in fields(FitConfig) if is_dataclass(f.type) or "dict" in str(f.type)]
    assert sorted(GROUPS) == sorted(holders)


def test_an_empty_group_on_the_command_line_is_refused_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [
        "study",
        "long-skips",
        "--dataset",
        "a=b",
        "--set",
        "net=null",
        "--set",
        "net.norm=none",
    ]
    assert main(given) == 1
    assert "--set: net is a group of options" in capsys.readouterr().err


def test_an_option_is_read_as_yaml() -> None:
    assert read_option("data.patch=[8, 8]") == ("data.patch", [8, 8])
    with pytest.raises(StudyError, match="NAME=VALUE"):
        read_option("data.patch")
    with pytest.raises(StudyError, match="the value is no YAML"):
        read_option("data.patch=[")


@pytest.mark.parametrize("preset", preset_names())
def test_every_arm_of_every_preset_has_settings_that_fit(
    preset: str, few_phantoms: Path, tmp_path: Path
) -> None:
    study = read_study(preset, Given({"ph": few_phantoms}, {}, {}))
    content = yaml.safe_load((Path("training/configs/study") / f"{preset}.yaml").read_text())
    own = content.get("arms") or {}
    crossed = 1
    for levels in (content.get("factors") or {}).values():
        crossed *= len(levels)

    settings = prepare(study, "ph", root=tmp_path).settings

    assert len(settings) == len(own) + (crossed if content.get("factors") else 0)
    assert study.name == preset
