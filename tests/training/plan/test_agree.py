"""Processes that start at once plan with one pace: the slowest."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from torch.distributed import HashStore

from training.plan.agree import agreed
from training.plan.rules import Pace
from training.plan.settings import _shared_pace


def test_all_get_the_slowest_and_the_least_time() -> None:
    told = [Pace(1.0, 16, 9.0, 50.0), Pace(3.0, 16, 7.0, 55.0), Pace(2.0, 16, 8.0, 45.5)]
    store = HashStore()
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(
            lambda rank: agreed(told[rank], store, rank=rank, processes=3), reversed(range(3))
        )
        assert set(answers) == {Pace(3.0, 16, 9.0, 45.5)}
    alone = replace(told[0], step_s=0.1)
    assert agreed(alone, HashStore(), rank=0, processes=1) == alone


@pytest.mark.parametrize(
    "started_by", [{"WORLD_SIZE": "2", "RANK": "0"}, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "fit"}]
)
def test_processes_that_cannot_agree_measure_nothing(
    monkeypatch: pytest.MonkeyPatch, started_by: dict[str, str]
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in started_by.items():
        monkeypatch.setenv(name, value)

    def measured() -> Pace:
        raise AssertionError("each process would plan other epochs")

    assert _shared_pace(1e12, measured) is None
