import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DataError
from training.data.config import DataConfig
from training.data.folder import Case, FolderDataset
from training.data.spec import DatasetSpec
from training.data.split import Split, find_split, make_split, read_split, write_split


def dataset_of(groups: list[str | None]) -> FolderDataset:
    """Return a data set of stems s0, s1, … with these groups; nothing is on disk."""
    nowhere = Path("nowhere")
    cases = tuple(Case(f"s{i}", nowhere, nowhere, group) for i, group in enumerate(groups))
    spec = DatasetSpec().with_class_names(["background", "cell"])
    return FolderDataset(nowhere, spec, cases, spec.segment_classes, 1, {})


def stems(numbers) -> tuple[str, ...]:
    return tuple(f"s{number}" for number in numbers)


def parts_of(split: Split) -> list[str]:
    return [*split.train, *split.val, *split.test]


def test_block_cuts_neighbouring_runs_in_natural_order():
    config = DataConfig(split="block", val_fraction=1 / 6, test_fraction=1 / 6)
    split = make_split(dataset_of([None] * 30), config)
    assert split.train == stems(range(20))
    assert split.val == stems(range(20, 25))
    assert split.test == stems(range(25, 30))
    assert split.kind == "block"


def test_block_folds():
    config = DataConfig(split="block", folds=3, fold=1, test_fraction=0.25)
    split = make_split(dataset_of([None] * 12), config)
    assert split.test == stems((9, 10, 11))
    assert split.val == stems((3, 4, 5))
    assert split.train == stems((0, 1, 2, 6, 7, 8))
    assert (split.fold, split.folds) == (1, 3)


def test_random_depends_on_the_seed_alone():
    dataset, config = dataset_of([None] * 40), DataConfig(seed=3)
    split = make_split(dataset, config)
    assert split == make_split(replace(dataset, cases=dataset.cases[::-1]), config)
    assert split.test != make_split(dataset, replace(config, seed=4)).test
    assert (len(split.train), len(split.val), len(split.test)) == (28, 6, 6)
    assert split.kind == "random"


def test_auto_takes_groups_where_they_are():
    assert make_split(dataset_of([None] * 9), DataConfig()).kind == "random"
    assert make_split(dataset_of(["a", "b", "c"] * 3), DataConfig()).kind == "group"


def test_groups_are_balanced_as_well_as_they_allow():
    groups = [f"patient {i // 2}" for i in range(40)]
    config = DataConfig(val_fraction=0.2, test_fraction=0.2)
    split = make_split(dataset_of(groups), config)
    assert (len(split.train), len(split.val), len(split.test)) == (24, 8, 8)


def test_a_giant_group_goes_to_train_and_leaves_the_others_theirs():
    split = make_split(dataset_of(["big"] * 50 + ["b", "c", "d"]), DataConfig())
    assert split.train[:3] == stems((0, 1, 2))
    assert split.val
    assert split.test


@settings(deadline=None)  # a loaded machine is no fault
@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=25),
    seed=st.integers(0, 5),
    fractions=st.sampled_from([(0.15, 0.15), (0.3, 0.0), (0.0, 0.0), (0.4, 0.4)]),
)
def test_no_group_is_ever_torn_and_no_image_lost(sizes, seed, fractions):
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    dataset = dataset_of(groups)
    config = DataConfig(seed=seed, val_fraction=fractions[0], test_fraction=fractions[1])
    split = make_split(dataset, config)
    assert Counter(parts_of(split)) == Counter(case.stem for case in dataset.cases)
    group_of = {case.stem: case.group for case in dataset.cases}
    seen = [{group_of[stem] for stem in part} for part in (split.train, split.val, split.test)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert bool(split.val) == (fractions[0] > 0)
    assert bool(split.test) == (fractions[1] > 0)


@settings(deadline=None)  # a loaded machine is no fault
@given(
    count=st.integers(8, 40),
    folds=st.integers(2, 6),
    kind=st.sampled_from(["random", "block"]),
)
def test_every_image_validates_in_exactly_one_fold(count, folds, kind):
    dataset = dataset_of([None] * count)
    config = DataConfig(split=kind, folds=folds, test_fraction=0.2)
    splits = [make_split(dataset, replace(config, fold=fold)) for fold in range(folds)]
    assert len({split.test for split in splits}) == 1
    validated = Counter(stem for split in splits for stem in split.val)
    assert validated == Counter({case.stem for case in dataset.cases} - set(splits[0].test))
    sizes = [len(split.val) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("groups", "config"),
    [
        ([None], DataConfig()),
        ([None] * 2, DataConfig()),
        (["a", "a", "b", "b"], DataConfig()),
        ([None] * 4, DataConfig(folds=5, test_fraction=0.0)),
        (["a", "b"] * 9, DataConfig(folds=3)),
    ],
)
def test_too_few_units_are_refused(groups, config):
    with pytest.raises(DataError, match=r"cannot (be split|make)"):
        make_split(dataset_of(groups), config)


@pytest.mark.parametrize(
    ("groups", "config", "said"),
    [
        ([None], DataConfig(), r"1 image\(s\).*3 parts.*add images, or data.test_fraction 0"),
        ([None], DataConfig(test_fraction=0.0), r"2 parts.*data.val_fraction 0"),
        (["a", "b"] * 9, DataConfig(), r"2 group\(s\).*3 parts.*add groups"),
        (["a", "b"] * 9, DataConfig(folds=3, test_fraction=0), "3 parts.*lower data.folds$"),
    ],
)
def test_too_few_units_are_told_what_to_do(groups, config, said):
    with pytest.raises(DataError, match=said) as refused:
        make_split(dataset_of(groups), config)
    assert "-1" not in str(refused.value)


def test_a_split_file_of_another_fold_is_refused(tmp_path):
    dataset, file = dataset_of([None] * 20), tmp_path / "split.json"
    config = DataConfig(folds=4, fold=1, split_file=str(file))
    write_split(make_split(dataset, config), file)
    assert find_split(dataset, config).fold == 1
    with pytest.raises(DataError, match="is fold 1 of 4, but fold 2 of 4 is asked for"):
        find_split(dataset, replace(config, fold=2))
    write_split(make_split(dataset, DataConfig()), file)
    with pytest.raises(DataError, match="is no fold, but fold 1 of 4"):
        find_split(dataset, config)


def test_group_without_groups():
    with pytest.raises(DataError, match="group_column"):
        make_split(dataset_of([None] * 9), DataConfig(split="group"))


def test_written_split_comes_back(tmp_path):
    dataset = dataset_of([None] * 20)
    split = make_split(dataset, DataConfig(folds=4, fold=2))
    write_split(split, tmp_path / "deep" / "split.json")
    assert read_split(tmp_path / "deep" / "split.json", dataset) == split


def test_grown_folder_keeps_its_split(tmp_path):
    split = make_split(dataset_of([None] * 20), DataConfig())
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", dataset_of([None] * 30)) == split


def test_split_of_another_folder_is_refused(tmp_path):
    write_split(make_split(dataset_of([None] * 20), DataConfig()), tmp_path / "split.json")
    with pytest.raises(DataError, match=r"names 1 stem\(s\).*s19"):
        read_split(tmp_path / "split.json", dataset_of([None] * 19))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"train": 3}', json.dumps({"train": ["a"], "val": [], "test": []})],
)
def test_not_a_split_file(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json: not a split file"):
        read_split(tmp_path / "split.json")


def test_missing_split_file(tmp_path):
    with pytest.raises(DataError, match="no such split file"):
        read_split(tmp_path / "split.json")


def test_a_stem_in_two_parts_is_refused():
    with pytest.raises(DataError, match="stand twice in the split: b"):
        Split(("a", "b"), ("b",), (), "random", 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "nothing to train on"),
        ({"val_fraction": -0.1}, "val_fraction must lie in 0..1"),
        ({"folds": 1}, "folds must be >= 2"),
        ({"folds": 3, "fold": 3}, "fold 3"),
        ({"folds": 3, "fold": "all", "split_file": "split.json"}, "leave split_file out"),
        ({"patch": (64, 64), "working_size": (64, 64)}, "exclude each other"),
        ({"patch": (64, 0)}, "each >= 1"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_impossible_configurations(fields, said):
    with pytest.raises(ValueError, match=said):
        DataConfig(**fields)
