"""What a split file tears apart or leaves out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contract.errors import DataError
from training.data.findings import Finding
from training.data.masks import class_of
from training.data.split import PARTS, Split, read_split
from training.data.survey import Survey
from training.doctor.duplicates import Pair


def part_findings(surveyed: Survey, path: Path, pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Yield what is wrong with the split in ``path`` for this data set."""
    try:
        split = read_split(path, surveyed)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        remedy = "mend the file, or let fit make a new one"
        yield Finding(path, "split-file", "a split that fit refuses", remedy, reason)
        return
    part_of = {stem: part for part in PARTS for stem in getattr(split, part)}
    yield from _torn_groups(surveyed, path, part_of)
    yield from _missing_classes(surveyed, path, split)
    yield from _torn_pairs(surveyed, pairs, part_of)
    unused = [case for case in surveyed.cases if case.stem not in part_of]
    for case in unused:
        yield Finding(
            case.image,
            "unused",
            f"not in the split {path.name}",
            "nothing, if it was added later; a new split takes it in",
            severity="note",
        )


def _torn_groups(surveyed: Survey, path: Path, part_of: Mapping[str, str]) -> Iterator[Finding]:
    parts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in surveyed.cases:
        if case.group is not None and case.stem in part_of:
            parts[case.group][part_of[case.stem]].append(case.stem)
    for group, stems in parts.items():
        if len(stems) > 1:
            listed = "; ".join(f"{part}: {', '.join(names[:3])}" for part, names in stems.items())
            yield Finding(
                path,
                "torn-group",
                "a group in more than one part: scores will be too good",
                "make a new split with --data.split group",
                f"group {group!r} ({listed})",
                "warning",
            )


def _missing_classes(surveyed: Survey, path: Path, split: Split) -> Iterator[Finding]:
    spec = surveyed.spec
    first = 1 if spec.task == "multiclass" else 0
    held: dict[str, set[int]] = {}
    for case, item in zip(surveyed.cases, surveyed.seen, strict=True):
        if spec.task == "multilabel":
            held[case.stem] = {
                plane
                for plane, values in enumerate(item.values)
                if any(class_of(value, spec) == 1 for value in values or ())
            }
        else:
            held[case.stem] = {class_of(v, spec) for values in item.values for v in values or ()}
    everywhere = set().union(*held.values())
    for part in PARTS:
        stems = getattr(split, part)
        found = set().union(*(held[stem] for stem in stems))
        for index in range(first, len(spec.classes) if stems else 0):
            # A class that no mask holds at all is told once, without a split.
            if index in everywhere and index not in found:
                name = spec.classes[index].name
                effect = "cannot be learned" if part == "train" else "has no score there"
                yield Finding(
                    path,
                    "part-lacks-class",
                    f"class {name!r} is in no mask of part {part!r}, so it {effect}",
                    "make a new split with another --data.seed, or larger parts",
                    severity="warning",
                )


def _torn_pairs(
    surveyed: Survey, pairs: Sequence[Pair], part_of: Mapping[str, str]
) -> Iterator[Finding]:
    for pair in pairs:
        first, second = surveyed.cases[pair.first], surveyed.cases[pair.second]
        one, other = part_of.get(first.stem), part_of.get(second.stem)
        if one is not None and other is not None and one != other:
            yield Finding(
                second.image,
                "duplicate-across-parts",
                "the same picture in two parts: scores will be too good",
                "put both into one part, or take one out",
                f"in {other!r}, and {first.image.name} in {one!r}",
                "warning",
                (first.image,),
            )
