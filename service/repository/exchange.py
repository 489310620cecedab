"""Put versions in and out of use while others answer."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from contract.errors import LongskipError
from service.engine.engine import Engine
from service.repository.load import left_aside, open_version, read_version
from service.repository.repository import (
    Entry,
    IdleModel,
    Repository,
    ServedModel,
    Stamp,
    UnusedModel,
)
from service.settings import Settings
from service.trace import ModelKey

# Who has a place in the queue is worked on; who has none after so long is slow.
SLOW_CLIENT_S = 1.0

_log = logging.getLogger("longskip.repository")


class Exchange:
    """The one that changes what is served.

    A version takes the place of another, or of its own older file, only when it has proved its
    golden sample; until then the old one answers, and who waits for it still gets its answer.

    Attributes:
        one_at_a_time: to be held around what is done here.
    """

    def __init__(self, repository: Repository, engine: Engine, settings: Settings) -> None:
        self._repository = repository
        self._engine = engine
        self._settings = settings
        self.one_at_a_time = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for nobody any more."""
        for task in tuple(self._retiring):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def take_in(self, key: ModelKey) -> None:
        """Read a version that is new or changed; one that is in use is opened beside itself."""
        in_use = isinstance(self._repository.entry(key), ServedModel)
        read = open_version if in_use else read_version
        try:
            entry = await asyncio.to_thread(read, self._settings, *key)
        except LongskipError as error:  # gone again, or its device is
            _log.error("%s/%d was not loaded: %s", *key, error)
            return
        self._put(entry)

    async def load(self, key: ModelKey) -> None:
        """Open a version that was idle."""
        before = self._repository.entry(key)
        try:
            entry: Entry = await asyncio.to_thread(open_version, self._settings, *key)
        except LongskipError as error:  # gone meanwhile, or its device is
            reason = f"it could not be loaded ({type(error).__name__})"
            stamp = before.stamp if before is not None else frozenset()
            entry = UnusedModel(*key, reason, stamp=stamp)
            _log.error("%s/%d was not loaded: %s", *key, error)
        self._put(entry)

    def _put(self, entry: Entry) -> None:
        before = self._repository.entry(entry.key)
        if not isinstance(before, ServedModel):
            if isinstance(entry, ServedModel):
                self._engine.take_up(entry)
            self._repository.put(entry)
        elif isinstance(entry, UnusedModel):
            kept = f"the older file answers, because the newer cannot be used: {entry.reason}"
            self._repository.put(replace(before, stamp=entry.stamp, complaint=kept))
        elif isinstance(entry, ServedModel) and _same_file(before, entry):
            self._repository.put(replace(before, stamp=entry.stamp, complaint=""))
        else:
            if isinstance(entry, ServedModel):
                self._engine.take_up(entry)
            self._repository.put(entry)
            self.retire(before)

    def drop(self, entry: Entry) -> None:
        """Take a version out that is gone from the folder."""
        self._repository.remove(entry.key)
        self.retire(entry)
        _log.info("%s/%d is gone from the folder", *entry.key)

    def unload(self, key: ModelKey, stamp: Stamp) -> None:
        """Take a version out that an admin does not want in use."""
        before = self._repository.entry(key)
        self._repository.put(UnusedModel(*key, "it was unloaded", state="unloaded", stamp=stamp))
        if before is not None:
            self.retire(before)
        _log.info("%s/%d unloaded", *key)

    async def leave_aside(self, key: ModelKey) -> None:
        """Take a version out, or list it as one, that its policy does not want in use."""
        before = self._repository.entry(key)
        self._repository.put(await asyncio.to_thread(left_aside, self._settings, *key))
        if before is not None:
            self.retire(before)
            _log.info("%s/%d is out of use by its policy", *key)

    async def make_idle(self, served: ServedModel) -> None:
        """Let a loaded version go until somebody asks for it; return when its memory is free.

        Or sooner, where clients alone keep it who take their time to send or to take bytes: they
        still get their answers, and do not hold up others.
        """
        scheduler = self._engine.scheduler(served)
        self._repository.put(IdleModel(*served.key, served.spec, served.stamp))
        letting_go = self._let_go(served)
        while not letting_go.done():
            await asyncio.wait((letting_go,), timeout=SLOW_CLIENT_S)
            if not scheduler.under_way:
                break
        _log.info("%s/%d is idle", *served.key)

    def retire(self, entry: Entry) -> None:
        """Let a model go that nobody finds any more, when who waits for it has the answer."""
        if isinstance(entry, ServedModel):
            self._let_go(entry)

    def _let_go(self, served: ServedModel) -> asyncio.Task[None]:
        task = asyncio.create_task(self._engine.retire(served))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return task


def _same_file(one: ServedModel, other: ServedModel) -> bool:
    return (one.model.sha256, one.model.precision) == (other.model.sha256, other.model.precision)
