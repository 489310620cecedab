"""What skips do on real images: the study's main directions, small enough for every run of CI.

EM membranes (ISBI 2012), neighbouring slices apart, crops of 128 px. Directions with margins, not
figures: long skips lower the loss of a shallow net; a net of 63 convolutions with batch norm learns
with short skips and stays at background without any (Drozdzal 2016; docs/study/).
"""

from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from training.study.cells import Outcome, read_outcome
from training.study.conduct import Place, conduct
from training.study.config import Given, StudyConfig, read_study

pytestmark = pytest.mark.slow
JOBS = 2


def outcomes(config: StudyConfig, root: Path) -> dict[str, list[Outcome]]:
    """Run the study and return what the runs of each arm found, seed by seed."""
    conducted = conduct(config, root, Place(jobs=JOBS))
    found: dict[str, list[Outcome]] = {}
    for cell in conducted.reported:
        outcome = read_outcome(cell.folder(root))
        assert outcome is not None, conducted.failed
        found.setdefault(cell.arm, []).append(outcome)
    return found


def short_version(preset: str, em: Path, **fields: Any) -> StudyConfig:
    """Return a preset with fewer arms, steps and seeds and without probes."""
    settings = {"data.patch": [128, 128], "data.batch_size": 4, "loss.kind": "ce"}
    bare = {"probes": (), "probes_once": (), "watch": (), "metrics": ("iou",)}
    return read_study(preset, Given({"em": em}, settings, bare | fields))


def loss_of(outcome: Outcome) -> float:
    assert outcome.loss is not None
    return outcome.loss


def test_long_skips_lower_the_loss_of_a_shallow_net(shared_data: Path, tmp_path: Path) -> None:
    arms = {"all": {"net.long_skips": "concat"}, "none": {"net.long_skips": "none"}}
    study = short_version(
        "long-skips",
        shared_data / "em_membrane_isbi2012",
        arms=arms,
        steps=150,  # after 100 steps a kind of CPU decides for a single seed
        seeds=(0, 1),
        learning_rates=(0.006,),
    )

    found = outcomes(study, tmp_path)

    assert mean(loss_of(f) for f in found["all"]) < mean(loss_of(f) for f in found["none"]), found
    assert mean(f.dice or 0 for f in found["all"]) > 0.65
    assert mean(f.error or 1 for f in found["all"]) < mean(f.error or 1 for f in found["none"])


def test_a_deep_net_without_any_skip_stays_at_background(shared_data: Path, tmp_path: Path) -> None:
    both = {"net.block": "residual", "net.long_skips": "concat"}
    neither = {"net.block": "plain", "net.long_skips": "none"}
    study = short_version(
        "short-by-long",
        shared_data / "em_membrane_isbi2012",
        arms={"both": both, "neither": neither},
        factors={},
        reference="both",
        steps=100,
        seeds=(0,),
        learning_rates=(0.006,),
    )

    found = outcomes(study, tmp_path)

    (with_skips,), (without,) = found["both"], found["neither"]
    assert (with_skips.dice or 0) > 0.5
    assert (without.dice or 0) < 0.3
    assert (without.error or 0) > 1.5 * (with_skips.error or 1)
