from contract.spec import Calibration, ModelSpec, NetDescription, Normalising, SegmentClass
from training.report.card import answer_lines

PLAIN = ModelSpec(
    name="cells",
    classes=(
        SegmentClass(name="background", colour=(0, 0, 0)),
        SegmentClass(name="cell", colour=(255, 0, 0)),
    ),
    channels=1,
    normalising=Normalising(kind="image"),
    whole_image_max_pixels=1 << 20,
    net=NetDescription(architecture="unet", parameters=1),
    code_version="0",
)


def test_one_net_without_options_needs_no_words() -> None:
    assert answer_lines(PLAIN) == []


def test_all_that_stands_between_net_and_answer_is_told() -> None:
    calibration = Calibration(
        temperature=1.25, images=9, ece_before=0.04, ece_after=0.01, nll_before=0.2, nll_after=0.1
    )
    spec = PLAIN.model_copy(
        update={
            "members": 3,
            "mirrors": ("horizontal",),
            "calibration": calibration,
            "thresholds_prob": (0.7, 0.3),
        }
    )
    assert answer_lines(spec) == [
        "- the mean probability of 3 such nets",
        "- also asked for the image mirrored: horizontal",
        "- temperature 1.25, fitted on 9 validation images: calibration error there 0.0400 "
        "before, 0.0100 after",
        "- class thresholds, chosen by validation Dice: background 0.7, cell 0.3",
    ]
