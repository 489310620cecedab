"""A run directory as a report reads it."""

from pathlib import Path

import pytest
import yaml

from training.fit.dotted import flat
from training.fit.run_directory import RunDirectoryError
from training.report.record import comments, read_run

CONFIG = """\
data:
  root: cells  # moved
  # twelve fit into 8 GB
  # at this patch
  batch_size: 12
  patch:
  - 64
  - 64
# a small set
net:
  widths: [6, 10]
trainer:
  max_epochs: 7
seed: 0
"""


def test_comments_belong_to_the_setting_beside_or_below_them() -> None:
    assert comments(CONFIG) == {
        "data.root": "moved",
        "data.batch_size": "twelve fit into 8 GB at this patch",
        "net": "a small set",
    }


def test_what_plan_writes_is_read_back() -> None:
    from training.plan.rules import Choice
    from training.plan.written import with_reasons

    text = with_reasons(
        CONFIG,
        [
            Choice(option="net.widths", value=[6, 10], reason="40 images: a narrow net"),
            Choice(option="seed", value=0, reason="the first"),
        ],
    )
    found = comments(text)
    assert found["net.widths"] == "40 images: a narrow net"
    assert found["seed"] == "the first"
    assert found["data.root"] == "moved"


def test_settings_are_flat_with_lists_as_leaves() -> None:
    settings = flat(yaml.safe_load(CONFIG))
    assert settings["data.patch"] == [64, 64]
    assert settings["trainer.max_epochs"] == 7
    assert flat({"a": {}, "b": {"c": None}}) == {"a": {}, "b.c": None}


def test_a_run_that_was_killed_at_once_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "environment.json").write_text('{"seed": ')
    (tmp_path / "split.json").write_text("{")
    record = read_run(tmp_path)
    assert record.planned_epochs == 7
    assert not record.finished
    assert record.environment == {}
    assert record.split is None


@pytest.mark.parametrize("content", [None, "[1, 2]", "a: [", ""])
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(RunDirectoryError, match="config"):
        read_run(tmp_path)
