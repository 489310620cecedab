"""A data set of eight images, a study of it, and the same study run once for all tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.study.conduct import Conducted, Place, conduct
from training.study.config import StudyConfig


@dataclass(frozen=True)
class RanStudy:
    """A study that was run to its end."""

    config: StudyConfig
    root: Path
    conducted: Conducted


@pytest.fixture(scope="session")
def few_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 8 images of 32 x 32 pixels."""
    out = tmp_path_factory.mktemp("study") / "phantoms"
    assert main(["phantoms", "--out", str(out), "--count", "8", "--size", "32", "32"]) == 0
    return out


@pytest.fixture(scope="session")
def study_of(few_phantoms: Path) -> Callable[..., StudyConfig]:
    """Return a function that makes a small study; its options replace the fields."""

    def build(**changed: Any) -> StudyConfig:
        fields: dict[str, Any] = {
            "name": "small",
            "question": "Do long skips help on phantoms?",
            "datasets": {"ph": {"root": str(few_phantoms)}},
            "base": {
                "net": {"widths": [4, 8], "convs_per_block": 1},
                "data": {
                    "patch": [16, 16],
                    "batch_size": 2,
                    "val_fraction": 0.25,
                    "test_fraction": 0.25,
                },
                "trainer.precision": "32-true",
            },
            "arms": {"all": {"net.long_skips": "concat"}, "none": {"net.long_skips": "none"}},
            "reference": "all",
            "steps": 4,
            "seeds": [0, 1],
            "learning_rates": [0.001, 0.01],
            "metrics": ["iou"],
        }
        return StudyConfig.model_validate({**fields, **changed})

    return build


@pytest.fixture(scope="session")
def ran_study(
    study_of: Callable[..., StudyConfig], tmp_path_factory: pytest.TempPathFactory
) -> RanStudy:
    """Run the small study once."""
    config = study_of()
    root = tmp_path_factory.mktemp("study") / "small"
    return RanStudy(config, root, conduct(config, root, Place()))
