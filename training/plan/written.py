"""Settings as YAML, with the reason of each planned one in a comment above it."""

from collections.abc import Iterable

import yaml

from training.plan.rules import Choice


def with_reasons(settings_yaml: str, choices: Iterable[Choice]) -> str:
    """Return the YAML text with a comment above each planned option that it holds.

    Args:
        settings_yaml: nested mappings in block style, two spaces a level.
        choices: what was planned; an option that the text lacks is passed over.
    """
    reasons = {choice.option: choice.reason for choice in choices}
    path: list[str] = []
    lines = []
    for line in settings_yaml.splitlines():
        text = line.lstrip(" ")
        depth = (len(line) - len(text)) // 2
        key, colon, _ = text.partition(":")
        if colon and not text.startswith(("-", "#")) and depth <= len(path):
            path = [*path[:depth], key]
            reason = reasons.get(".".join(path))
            if reason is not None:
                lines.append(f"{'  ' * depth}# {reason}")
        lines.append(line)
    return "\n".join(lines) + "\n"


def nested(choices: Iterable[Choice]) -> dict[str, object]:
    """Return the planned options as nested mappings."""
    tree: dict[str, object] = {}
    for choice in choices:
        *groups, name = choice.option.split(".")
        place = tree
        for group in groups:
            inner = place.setdefault(group, {})
            if not isinstance(inner, dict):
                raise TypeError(f"{choice.option}: {group} is a value and a group at once")
            place = inner
        place[name] = choice.value
    return tree


def block_yaml(tree: dict[str, object]) -> str:
    """Return YAML with a line for each option and lists within their line."""
    return yaml.dump(tree, Dumper=_Block, sort_keys=False)


class _Block(yaml.SafeDumper):
    """Mappings in block style, lists in flow style."""


def _flow_list(dumper: yaml.SafeDumper, values: Iterable[object]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", list(values), flow_style=True)


_Block.add_representer(list, _flow_list)
_Block.add_representer(tuple, _flow_list)
