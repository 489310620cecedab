"""Hold at most so many models in memory: load one when it is asked for, let the idlest go."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from service.engine.engine import Engine
from service.errors import DeadlineExceeded
from service.repository.exchange import Exchange
from service.repository.repository import Asked, IdleModel, Repository, ServedModel
from service.trace import ModelKey, Trace


class OnDemand:
    """Finds the version that is to answer, loaded; without a limit all are.

    Who asks for one that is not loaded waits for the one loading of it, and goes on waiting in
    its turn where others ask for more versions than there may be.
    """

    def __init__(
        self,
        repository: Repository,
        engine: Engine,
        exchange: Exchange,
        *,
        pass_over: Callable[[str], Awaitable[None]],
        max_loaded: int | None,
        deadline_s: float,
    ) -> None:
        """``pass_over`` is called with a model's name when one of its versions failed."""
        self._repository = repository
        self._engine = engine
        self._exchange = exchange
        self._pass_over = pass_over
        self._max_loaded = max_loaded
        self._deadline_s = deadline_s
        self._asked: dict[ModelKey, None] = {}  # the one asked last stands last
        self._loading: dict[ModelKey, asyncio.Task[None]] = {}
        self._waiting: dict[ModelKey, list[asyncio.Future[None]]] = {}

    async def close(self) -> None:
        """Load nothing any more."""
        for task in tuple(self._loading.values()):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def find(
        self, name: str, version: Asked, trace: Trace, *, drawn: bool = True
    ) -> ServedModel:
        """Return the version that is to answer a request. Claim its scheduler before you wait.

        Args:
            name: of the model.
            version: as the request names it.
            trace: of the request.
            drawn: whether a weighted alias may take it.

        Raises:
            ModelNotFound, ModelNotReady: see ``Repository.find``; also one that turned out to be
                broken when it was loaded.
            DeadlineExceeded: it was not loaded in time.
        """
        while True:
            request_id = trace.request_id if drawn else ""
            found = self._repository.find(name, version, request_id=request_id)
            if isinstance(found, ServedModel):
                if self._max_loaded is not None:
                    self._asked.pop(found.key, None)
                    self._asked[found.key] = None
                return found
            with trace.stage("load"):
                await self._wait_for(found.key, self._deadline_s - trace.elapsed_s)

    async def _wait_for(self, key: ModelKey, seconds_left: float) -> None:
        """Wait for one loading of a version, whatever comes of it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(turn)
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._load(key))
        try:
            async with asyncio.timeout(max(0.0, seconds_left)):
                await turn
        except TimeoutError as error:
            # The loading goes on: who asks next finds it further on.
            raise DeadlineExceeded(
                f"the model was not loaded within {self._deadline_s:g} s; ask again in a moment"
            ) from error

    async def _load(self, key: ModelKey) -> None:
        async with self._exchange.one_at_a_time:
            try:
                if isinstance(self._repository.entry(key), IdleModel):
                    await self._make_room()
                    await self._exchange.load(key)
                    if not isinstance(self._repository.entry(key), ServedModel):
                        await self._pass_over(key[0])
            finally:
                del self._loading[key]
                for turn in self._waiting.pop(key):
                    if not turn.done():
                        turn.set_result(None)
            # They run now, before this goes on and gives the lock to who may want the room: each
            # finds the model and claims it. Otherwise two that are wanted by turns would drive
            # each other out without ever answering.
            await asyncio.sleep(0)

    async def _make_room(self) -> None:
        """Let models go until one more may be loaded.

        One without a request goes before others, and the one that was asked longest ago before
        those asked later. It is not found any more before its last request is answered, so that
        a stream of requests does not keep it for ever.
        """
        while len(self._repository.ready) >= (self._max_loaded or 1):
            order = {key: place for place, key in enumerate(self._asked)}
            idlest = min(
                self._repository.ready,
                key=lambda one: (self._engine.scheduler(one).claimed, order.get(one.key, -1)),
            )
            await self._exchange.make_idle(idlest)
