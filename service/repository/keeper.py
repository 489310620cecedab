"""Keep what is served in step with the models' folder, and with what admins ask for."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from watchfiles import awatch

from contract.errors import LongskipError, ModelNotFound
from contract.repository import list_models, list_versions
from service.engine.engine import Engine
from service.errors import ModelNotReady
from service.repository.load import open_version, stamp_of
from service.repository.repository import (
    Entry,
    Repository,
    ServedModel,
    Stamp,
    UnusedModel,
)
from service.settings import Settings
from service.trace import ModelKey

# A copy that is under way changes its file many times; each time it would be opened in vain.
QUIET_MS = 500
AGAIN_S = 5.0

_log = logging.getLogger("longskip.repository")


class Keeper:
    """Loads and unloads versions while others answer.

    A version takes the place of another, or of its own older file, only when it has proved its
    golden sample; until then the old one answers, and who waits for it still gets its answer. A
    file that cannot be used is told in the index.
    """

    def __init__(self, repository: Repository, engine: Engine, settings: Settings) -> None:
        self._repository = repository
        self._engine = engine
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._settings.reload:
            self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._retiring, *([self._watching] if self._watching else [])):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def refresh(self) -> None:
        """Load what is new or changed in the folder, and drop what is gone from it."""
        async with self._one_at_a_time:
            found = await asyncio.to_thread(_stamps, self._settings.models)
            known = {entry.key: entry for entry in self._repository.entries}
            for key in known.keys() - found.keys():
                self._drop(known[key])
            for key, stamp in found.items():
                entry = known.get(key)
                if entry is None or (entry.stamp != stamp and not _is_unloaded(entry)):
                    await self._open(key)

    async def load(self, name: str) -> None:
        """Load every version of a model that lies in the folder, also one that was unloaded.

        Raises:
            ModelNotFound: the folder holds no model of that name.
            ModelNotReady: none of its versions can be used.
        """
        async with self._one_at_a_time:
            versions = await asyncio.to_thread(list_versions, self._settings.models, name)
            if not versions:
                raise ModelNotFound(f"the models' folder holds no version of {name}")
            for version in versions:
                entry = self._repository.entry((name, version))
                stamp = await asyncio.to_thread(
                    stamp_of, self._settings.models / name / str(version)
                )
                if not isinstance(entry, ServedModel) or entry.stamp != stamp:
                    await self._open((name, version))
        if self._repository.default(name) is None:
            newest = self._repository.versions(name)[-1]
            reason = newest.reason if isinstance(newest, UnusedModel) else ""
            raise ModelNotReady(f"no version of {name} can be used: {reason}")

    async def unload(self, name: str) -> None:
        """Take all versions of a model out, until somebody loads it again.

        Who waits for an answer still gets it.

        Raises:
            ModelNotFound: there is no such model.
        """
        async with self._one_at_a_time:
            for entry in self._repository.versions(name):
                self._repository.put(
                    UnusedModel(*entry.key, "it was unloaded", state="unloaded", stamp=entry.stamp)
                )
                self._retire(entry)
                _log.info("%s/%d unloaded", *entry.key)

    async def _open(self, key: ModelKey) -> None:
        try:
            entry = await asyncio.to_thread(open_version, self._settings, *key)
        except LongskipError as error:  # gone again, or its device is
            _log.error("%s/%d was not loaded: %s", *key, error)
            return
        before = self._repository.entry(key)
        if not isinstance(before, ServedModel):
            if isinstance(entry, ServedModel):
                self._engine.take_up(entry)
            self._repository.put(entry)
        elif isinstance(entry, UnusedModel):
            kept = f"the older file answers, because the newer cannot be used: {entry.reason}"
            self._repository.put(replace(before, stamp=entry.stamp, complaint=kept))
        elif _same_file(before, entry):
            self._repository.put(replace(before, stamp=entry.stamp, complaint=""))
        else:
            self._engine.take_up(entry)
            self._repository.put(entry)
            self._retire(before)

    def _drop(self, entry: Entry) -> None:
        self._repository.remove(entry.key)
        self._retire(entry)
        _log.info("%s/%d is gone from the folder", *entry.key)

    def _retire(self, entry: Entry) -> None:
        if isinstance(entry, ServedModel):
            task = asyncio.create_task(self._engine.retire(entry))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _watch(self) -> None:
        while True:
            try:
                if self._settings.models.is_dir():
                    await self.refresh()
                    async for _ in awatch(self._settings.models, debounce=QUIET_MS):
                        await self.refresh()
            except Exception as error:  # a folder that goes away, a system without watches left
                _log.error("the models' folder is not watched: %s", type(error).__name__)
            await asyncio.sleep(AGAIN_S)


def _stamps(root: Path) -> dict[ModelKey, Stamp]:
    return {
        (name, version): stamp_of(root / name / str(version))
        for name in list_models(root)
        for version in list_versions(root, name)
    }


def _is_unloaded(entry: Entry) -> bool:
    return isinstance(entry, UnusedModel) and entry.state == "unloaded"


def _same_file(one: ServedModel, other: ServedModel) -> bool:
    return (one.model.sha256, one.model.precision) == (other.model.sha256, other.model.precision)
