"""One colour and one mark for each arm, the same in all figures of a study.

Colours are those of Okabe and Ito (2008), which people with the common kinds of colour blindness
tell apart, less the yellow that paper swallows; marks say the same without any colour. The
reference is black.
"""

from dataclasses import dataclass

from training.study.config import StudyConfig

BLACK = "#1b1f24"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a939d")
MARKS = ("s", "^", "D", "v", "P", "X", "<", ">")
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Look:
    """How an arm is drawn.

    Attributes:
        colour: of marks and lines.
        mark: of matplotlib.
        line: style of its lines.
    """

    colour: str
    mark: str
    line: str = "-"


def arm_looks(config: StudyConfig) -> dict[str, Look]:
    """Return the look of every arm.

    Where there are more arms than colours and the arms are levels of factors, the first factor
    gives the colour, and the others the mark and the line.
    """
    arms = list(config.all_arms)
    others = [arm for arm in arms if arm != config.reference]
    if len(others) <= len(COLOURS) or not config.factors:
        looks = {
            arm: Look(
                COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)], LINES[i // len(COLOURS) % 4]
            )
            for i, arm in enumerate(others)
        }
        return {arm: looks.get(arm, Look(BLACK, "o")) for arm in arms}
    first, *rest = config.factors
    marks: dict[tuple[str, ...], int] = {}
    looks = {}
    for arm in arms:
        levels = config.levels_of(arm)
        if not levels:
            looks[arm] = Look(BLACK, "o")
            continue
        colour = list(config.factors[first]).index(levels[first])
        place = marks.setdefault(tuple(levels[factor] for factor in rest), len(marks))
        looks[arm] = Look(
            (BLACK, *COLOURS)[colour % (len(COLOURS) + 1)],
            ("o", *MARKS)[place % (len(MARKS) + 1)],
            LINES[place % len(LINES)],
        )
    return looks
