"""Masks that hold nothing, or one class all over, and classes that no mask holds."""

from collections import Counter
from collections.abc import Iterator

from training.data.findings import Finding
from training.data.masks import IGNORE, UNMAPPED, class_of
from training.data.survey import Survey


def coverage(surveyed: Survey) -> Iterator[Finding]:
    """Yield findings on the masks whose values all have a meaning."""
    spec = surveyed.spec
    held: set[int] = set()
    for case, item in zip(surveyed.cases, surveyed.seen, strict=True):
        counts: Counter[int] = Counter()
        for plane, values in enumerate(item.values):
            for value, count in (values or {UNMAPPED: 1}).items():
                index = UNMAPPED if value == UNMAPPED else class_of(value, spec)
                if spec.task == "multilabel" and index == 1:
                    index = plane + 1  # apart, so that one full plane is not a full mask
                counts[index] += count
        if UNMAPPED in counts:
            return  # what the others mean is not known either
        classes = {index for index in counts if index not in (0, IGNORE)}
        held |= classes
        where = case.mask_files[0] if len(case.mask_files) == 1 else case.mask_files[0].parent
        if set(counts) == {IGNORE}:
            yield Finding(
                where,
                "all-ignored",
                "every pixel is ignored, so it trains nothing",
                "take the image out, or change ignore in dataset.yaml",
                severity="warning",
            )
        elif not classes:
            yield Finding(
                where,
                "empty-mask",
                "an empty mask: nothing but background",
                "nothing, if there is nothing to see in its image; else label it or take it out",
                severity="note",
            )
        elif len(classes) == 1 and not counts[0] and spec.task == "multiclass":
            name = spec.classes[next(iter(classes))].name
            yield Finding(
                where,
                "full-mask",
                "a mask of one class all over",
                "compare it with its image; it may be inverted, or filled by mistake",
                f"all {name}",
                "warning",
            )
    first = 1 if spec.task == "multiclass" else 0
    if not surveyed.cases:
        return
    for index, entry in enumerate(spec.classes[first:], start=1):
        if index not in held:
            yield Finding(
                surveyed.root / spec.masks,
                "absent-class",
                f"no mask holds class {entry.name!r}",
                "label some, or take the class out of dataset.yaml",
                severity="warning",
            )
