"""All that runs while the service is up: the models' schedulers, the threads, the budget."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, Self, TypeVar

from contract.errors import OutOfMemory
from contract.heap import trim_heap
from contract.session import CPU_PROVIDER, usable_cores
from service.engine.budget import PixelBudget
from service.engine.cache import AnswerCache
from service.engine.memory import hand_back_regularly
from service.engine.run import SegmentationModel
from service.engine.scheduler import Lanes, Scheduler
from service.engine.turns import Turns
from service.metrics import Metrics
from service.repository.repository import Repository, ServedModel
from service.settings import Settings

# What one run of a U-Net keeps in a CPU's caches. A 2 M-parameter one took, per image alone and in
# a batch of 8, 2.3 and 1.5 ms at 48 x 48, equal times at 160 x 160, 65 and 86 ms at 256 x 256.
CPU_BATCH_PIXELS = 256 * 256

TRIM_AFTER_S = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Started and stopped with the app, inside its event loop.

    Attributes:
        budget: the decoded pixels that all requests together may hold.
        cache: answers that were given already.
    """

    def __init__(self, repository: Repository, settings: Settings, metrics: Metrics) -> None:
        self.budget = PixelBudget(int(settings.max_decoded_megapixels * 1e6))
        self.cache = AnswerCache(int(settings.cache_mb * 1e6))
        self._settings, self._metrics = settings, metrics
        self._codecs = Turns(settings.decode_workers)
        self._schedulers: dict[SegmentationModel, Scheduler] = {}
        self._handing_back: asyncio.Task[None] | None = None
        for served in repository.ready:
            self.take_up(served)

    async def __aenter__(self) -> Self:
        self._handing_back = asyncio.create_task(hand_back_regularly())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._handing_back is not None:
            self._handing_back.cancel()
            with suppress(asyncio.CancelledError):
                await self._handing_back
        for scheduler in list(self._schedulers.values()):
            await scheduler.close()
        await self._codecs.close()

    @property
    def schedulers(self) -> list[Scheduler]:
        """All there are: of models in use, and of replaced ones that somebody still waits for."""
        return list(self._schedulers.values())

    def take_up(self, served: ServedModel) -> None:
        """Be ready to run a model."""
        lanes = _lanes(served, self._settings)
        self._schedulers[served.model] = Scheduler(
            served.model,
            key=served.key,
            max_batch=self._settings.max_batch,
            max_batch_pixels=batch_pixels(served.model),
            queue_size=self._settings.queue_size,
            decoded_ahead=_decoded_ahead(served.model, lanes, self._settings),
            lanes=lanes,
            observe_batch=self._metrics.batch_observer(*served.key),
        )

    async def retire(self, served: ServedModel) -> None:
        """Answer who waits for a model that nobody finds any more, and let it go."""
        scheduler = self._schedulers[served.model]
        await scheduler.wait_until_idle()
        # Not before: until then, its waiting images are counted.
        del self._schedulers[served.model]
        await scheduler.close()
        # What its runs took of the memory that all share; it may be the last model that is there.
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, served.model.hand_memory_back)
        # Its sessions go with the last reference to them, a moment later.
        loop.call_later(TRIM_AFTER_S, self._hand_back_for_those_gone)

    def _hand_back_for_those_gone(self) -> None:
        """Hand back what they held of the memory that all share, by order of a model in use."""
        on_cpu = (model for model in self._schedulers if model.provider == CPU_PROVIDER)
        model = next(on_cpu, None)
        work = trim_heap if model is None else model.hand_memory_back
        asyncio.get_running_loop().run_in_executor(None, work)

    def scheduler(self, served: ServedModel) -> Scheduler:
        """Return the scheduler of a model that was just found in the repository.

        Keep it for as long as the request goes on; a later look-up may not find it any more.
        """
        return self._schedulers[served.model]

    async def in_codec_thread(
        self, owner: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run decoding or encoding in one of the threads for it.

        Args:
            owner: for whom: models that have such work waiting take turns.
            work: what to call.
            args: of it.
            kwargs: of it.

        Raises:
            OutOfMemory: there was none for the work.
        """
        try:
            done: T = await self._codecs.run(owner, partial(work, *args, **kwargs))
        except MemoryError as error:
            raise OutOfMemory(
                "there is no memory for the image now; send it again in a moment"
            ) from error
        return done


def _lanes(served: ServedModel, settings: Settings) -> Lanes | None:
    if served.one_core is None:
        return None
    return Lanes(served.one_core, settings.threads or usable_cores())


def _decoded_ahead(model: SegmentationModel, lanes: Lanes | None, settings: Settings) -> int:
    """Return how many images may be decoded that no run has begun with.

    What the next runs take, twice, beside what is being decoded. On the CPU large images, which
    alone are decoded before their run, hardly share one.
    """
    images = (lanes.count if lanes else 1) if model.provider == CPU_PROVIDER else settings.max_batch
    return 2 * images + settings.decode_workers


def batch_pixels(model: SegmentationModel) -> int:
    """Return the most pixels in one batch: never more than the model takes as one image.

    A batch keeps a GPU busy. On the CPU one image does that already, and a batch of larger ones
    only falls out of the caches.
    """
    if model.provider == CPU_PROVIDER:
        return min(CPU_BATCH_PIXELS, model.spec.whole_image_max_pixels)
    return model.spec.whole_image_max_pixels
