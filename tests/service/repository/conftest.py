"""A repository that is kept in step with its folder, with a real engine, in the test's own loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine.engine import Engine
from service.metrics import Metrics
from service.repository.keeper import Keeper
from service.repository.load import load_repository
from service.repository.repository import Repository, ServedModel
from service.settings import Settings
from service.trace import Trace


class Kept:
    """A repository that is kept, with its engine."""

    def __init__(
        self, repository: Repository, engine: Engine, keeper: Keeper, settings: Settings
    ) -> None:
        self.repository, self.engine, self.keeper = repository, engine, keeper
        self.settings = settings

    def sha256(self) -> str:
        """Of the file that answers."""
        return self.repository.find("m").model.sha256

    async def segment(self, served: ServedModel) -> Any:
        scheduler = self.engine.scheduler(served)
        image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
        with scheduler.slot(), self.engine.budget.lease() as lease:
            answer = await scheduler.segment(
                image, probabilities=False, lease=lease, trace=Trace("t")
            )
        return answer.labels


@asynccontextmanager
async def keeping(root: Path, **settings: Any) -> AsyncIterator[Kept]:
    chosen = Settings(models=root, device="cpu", threads=1, **{"reload": False, **settings})
    repository = load_repository(chosen)
    async with (
        Engine(repository, chosen, Metrics()) as engine,
        Keeper(repository, engine, chosen) as keeper,
    ):
        yield Kept(repository, engine, keeper, chosen)


@pytest.fixture(name="keeping")
def _keeping() -> Callable[..., AbstractAsyncContextManager[Kept]]:
    """Load a folder and keep it; the folder is not watched unless asked for."""
    return keeping
