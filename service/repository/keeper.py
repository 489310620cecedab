"""Keep what is served in step with the models' folder, and with what admins ask for."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from watchfiles import awatch

from contract.errors import ModelNotFound
from contract.repository import list_models, list_versions
from service.engine.engine import Engine
from service.errors import PoliciesInvalid
from service.repository.exchange import Exchange
from service.repository.load import stamp_of
from service.repository.on_demand import OnDemand
from service.repository.policy import NO_POLICY, POLICY_FILE, Policies, read_policies
from service.repository.repository import (
    IdleModel,
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

Stamps = Mapping[str, Mapping[int, Stamp]]
"""Of the folder's versions, by name and number."""

_log = logging.getLogger("longskip.repository")


class Keeper:
    """Loads and unloads versions while others answer.

    What ``models.yaml`` says takes force at once and whole, when all that it names can be used;
    until then the former one is in force. A file that cannot be used is told in the index.

    Attributes:
        find: see ``OnDemand.find``.
    """

    def __init__(self, repository: Repository, engine: Engine, settings: Settings) -> None:
        self._repository = repository
        self._settings = settings
        self._exchange = Exchange(repository, engine, settings)
        self._on_demand = OnDemand(
            repository,
            engine,
            self._exchange,
            pass_over=self._pass_over,
            max_loaded=settings.max_loaded,
            deadline_s=settings.deadline_s,
        )
        self.find = self._on_demand.find
        self._watching: asyncio.Task[None] | None = None
        self._unloaded: set[str] = set()

    async def __aenter__(self) -> Self:
        if self._settings.reload:
            self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._on_demand.close()
        await self._exchange.close()

    async def refresh(self) -> None:
        """Load what is new or changed in the folder, and drop what is gone from it."""
        async with self._exchange.one_at_a_time:
            there = await asyncio.to_thread(_stamps, self._settings.models)
            for entry in self._repository.entries:
                if entry.version not in there.get(entry.name, {}):
                    self._exchange.drop(entry)
            await self._follow(there)

    async def load(self, name: str) -> None:
        """Load the versions of a model that are to be in use, also what was unloaded or failed.

        Raises:
            ModelNotFound: the folder holds no model of that name.
            ModelNotReady: the version cannot be used that answers where none is named.
        """
        async with self._exchange.one_at_a_time:
            there = await asyncio.to_thread(_stamps, self._settings.models, [name])
            if not there:
                raise ModelNotFound(f"the models' folder holds no version of {name}")
            self._unloaded.discard(name)
            await self._follow(there, only=name)
        self._repository.find(name)

    async def unload(self, name: str) -> None:
        """Take all versions of a model out, until somebody loads it again.

        Who waits for an answer still gets it.

        Raises:
            ModelNotFound: there is no such model.
        """
        async with self._exchange.one_at_a_time:
            for entry in self._repository.versions(name):
                self._exchange.unload(entry.key, entry.stamp)
            self._unloaded.add(name)

    async def _pass_over(self, name: str) -> None:
        """Read the versions that ``latest`` wants in place of one that turned out to fail."""
        there = await asyncio.to_thread(_stamps, self._settings.models, [name])
        for stamps in there.values():
            await self._take_in(name, stamps, self._repository.policies, again=False)
            await self._put_out(name, stamps)

    async def _follow(self, there: Stamps, *, only: str | None = None) -> None:
        """Bring models in step with their files and with ``models.yaml``.

        Args:
            there: what the folder holds of them.
            only: the one model to look at, all of it; None: all, what is new or changed.
        """
        wished, complaint = await self._wished(only)
        for name, stamps in there.items():
            if name not in self._unloaded:
                await self._take_in(name, stamps, wished, again=only is not None)
        complaint = complaint or self._repository.unmet(wished)
        if wished != self._repository.policies:
            if complaint:
                complaint += "; the former one is in force"
            else:
                self._repository.policies = wished
                _log.info("%s is in force", POLICY_FILE)
        if complaint and complaint != self._repository.complaint:
            _log.error("%s: %s", POLICY_FILE, complaint)
        self._repository.complaint = complaint
        for name, stamps in there.items():
            await self._put_out(name, stamps)

    async def _wished(self, only: str | None) -> tuple[Policies, str]:
        """Return what ``models.yaml`` says now, of one model or of all, or why it does not read."""
        in_force = self._repository.policies
        try:
            written = await asyncio.to_thread(read_policies, self._settings.models)
        except PoliciesInvalid as error:
            return in_force, f"{error}; the former one is in force"
        if only is None:
            return written, ""
        others = {name: policy for name, policy in in_force.items() if name != only}
        return others | ({only: written[only]} if only in written else {}), ""

    async def _take_in(
        self, name: str, stamps: Mapping[int, Stamp], wished: Policies, *, again: bool
    ) -> None:
        """Read the versions that are wanted and new or changed.

        Those that the policy in force wants, too: it stays in force where the new one cannot.
        """
        tried: set[int] = set()
        while True:
            failed = [v for v in stamps if self._has_failed(name, v, stamps[v], tried)]
            wanted = {
                version
                for policy in (self._repository.policy(name), wished.get(name, NO_POLICY))
                for version in policy.wanted(stamps, failed)
            }
            pending = [
                version
                for version in sorted(wanted - tried)
                if self._is_to_be_read((name, version), stamps[version], again=again)
            ]
            if not pending:
                return
            for version in pending:
                await self._exchange.take_in((name, version))
            tried |= set(pending)

    def _has_failed(self, name: str, version: int, stamp: Stamp, tried: set[int]) -> bool:
        entry = self._repository.entry((name, version))
        if entry is None or version in tried:
            return version in tried and not isinstance(entry, ServedModel | IdleModel)
        return isinstance(entry, UnusedModel) and entry.state == "failed" and entry.stamp == stamp

    def _is_to_be_read(self, key: ModelKey, stamp: Stamp, *, again: bool) -> bool:
        entry = self._repository.entry(key)
        if entry is None or entry.stamp != stamp:
            return True
        return isinstance(entry, UnusedModel) and (again or entry.state == "unloaded")

    async def _put_out(self, name: str, stamps: Mapping[int, Stamp]) -> None:
        """Let those go, and list them, that the policy in force does not want."""
        entries = {version: self._repository.entry((name, version)) for version in stamps}
        failed = [
            version
            for version, entry in entries.items()
            if isinstance(entry, UnusedModel) and entry.state == "failed"
        ]
        kept = self._repository.policy(name).tried(stamps, failed)
        for version, entry in entries.items():
            if name in self._unloaded:
                if entry is None:
                    self._exchange.unload((name, version), stamps[version])
            elif version not in kept and (entry is None or entry.state != "unloaded"):
                await self._exchange.leave_aside((name, version))

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


def _stamps(root: Path, names: Iterable[str] | None = None) -> Stamps:
    found = {
        name: {
            version: stamp_of(root / name / str(version)) for version in list_versions(root, name)
        }
        for name in (list_models(root) if names is None else names)
    }
    return {name: versions for name, versions in found.items() if versions}
