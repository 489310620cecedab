"""Reasons stand in the config as comments, and the config stays what it was."""

import yaml

from training.plan.rules import Choice
from training.plan.written import block_yaml, nested, with_reasons

CHOICES = (
    Choice("data.patch", [192, 192], "within the median image"),
    Choice("seed", 3, "because: it can hold a colon"),
    Choice("loss.class_weights", None, "none is rare"),
    Choice("absent.option", 1, "not in the text"),
)


def test_comments_stand_above_their_options_and_change_nothing() -> None:
    text = "data:\n  root: x\n  patch:\n  - 192\n  - 192\nloss:\n  class_weights: null\nseed: 3\n"
    written = with_reasons(text, CHOICES)
    lines = written.splitlines()
    assert lines[lines.index("  patch:") - 1] == "  # within the median image"
    assert lines[lines.index("seed: 3") - 1] == "# because: it can hold a colon"
    assert yaml.safe_load(written) == yaml.safe_load(text)
    assert "not in the text" not in written


def test_an_option_of_the_same_name_in_another_group_gets_no_comment() -> None:
    written = with_reasons("net:\n  patch: 1\ndata:\n  patch: 2\n", CHOICES)
    assert written == "net:\n  patch: 1\ndata:\n  # within the median image\n  patch: 2\n"


def test_nested_is_what_yaml_reads_back() -> None:
    tree = nested(CHOICES)
    assert tree["data"] == {"patch": [192, 192]}
    assert yaml.safe_load(block_yaml(tree)) == tree
    assert "patch: [192, 192]" in block_yaml(tree)
