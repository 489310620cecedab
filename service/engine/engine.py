"""All that runs while the service is up: the models' schedulers, the threads, the budget."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Self, TypeVar

from service.engine.budget import PixelBudget
from service.engine.scheduler import Scheduler
from service.metrics import Metrics
from service.repository.repository import Repository, ServedModel
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Started and stopped with the app, inside its event loop.

    Attributes:
        budget: the decoded pixels that all requests together may hold.
    """

    def __init__(self, repository: Repository, settings: Settings, metrics: Metrics) -> None:
        self.budget = PixelBudget(int(settings.max_decoded_megapixels * 1e6))
        self._codecs = ThreadPoolExecutor(settings.decode_workers, thread_name_prefix="codec")
        self._schedulers = {
            served.key: Scheduler(
                served.model,
                max_batch=settings.max_batch,
                queue_size=settings.queue_size,
                observe_batch=metrics.batch_observer(served.name),
            )
            for served in repository.ready
        }
        metrics.watch_queues({key: s for key, s in self._schedulers.items()})

    async def __aenter__(self) -> Self:
        for scheduler in self._schedulers.values():
            scheduler.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for scheduler in self._schedulers.values():
            await scheduler.close()
        await asyncio.get_running_loop().run_in_executor(None, self._codecs.shutdown)

    def scheduler(self, served: ServedModel) -> Scheduler:
        """Return the scheduler of a model that is ready."""
        return self._schedulers[served.key]

    async def in_codec_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run decoding or encoding in one of the threads for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._codecs, partial(work, *args, **kwargs))
