"""A few real steps and validation images are timed, and Lightning has nothing to warn of."""

import time
import warnings
from pathlib import Path

import pytest

from training.data.config import DataConfig
from training.data.folder import open_folder
from training.data.phantoms import write_phantoms
from training.fit.config import FitConfig
from training.nets.config import NetConfig
from training.plan.pace import SHORT_BATCH, SHORT_S, measure_pace


@pytest.mark.parametrize(
    ("val_fraction", "limit_s", "samples"),
    [(0.2, SHORT_S / 2, SHORT_BATCH), (0.0, 2 * SHORT_S, 6)],
)
def test_steps_and_images_are_timed_without_a_warning(
    tmp_path: Path, val_fraction: float, limit_s: float, samples: int
) -> None:
    write_phantoms(tmp_path / "data", count=10, size_hw=(40, 48), seed=1, classes=2)
    config = FitConfig(
        data=DataConfig(
            root=str(tmp_path / "data"),
            patch=(32, 32),
            batch_size=6,
            workers=0,
            val_fraction=val_fraction,
        ),
        net=NetConfig(widths=(4, 6)),
        trainer={"accelerator": "cpu"},
    )
    dataset = open_folder(tmp_path / "data", progress=False)
    with warnings.catch_warnings(record=True) as warned:
        pace = measure_pace(config, dataset, deadline_s=time.monotonic() + limit_s)
    assert not [str(warning.message) for warning in warned]
    assert 0 < pace.step_s < limit_s
    assert (pace.validation_s > 0) == (val_fraction > 0)
    # Less is measured where there is little time, and what was measured is told.
    assert pace.samples == samples
    assert 0 < pace.left_s < limit_s
