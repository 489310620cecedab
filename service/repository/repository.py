"""What this process serves: every version found, in use or not, with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from contract.errors import ModelNotFound
from service.engine.run import SegmentationModel
from service.errors import ModelNotReady
from service.trace import ModelIdentity, ModelKey

Stamp = frozenset[tuple[str, int, int, int]]
"""Of a version's model files: name, bytes, time of change in ns, inode. Another: another file."""


@dataclass(frozen=True)
class ServedModel:
    """A version that proved itself on the provider in use.

    Attributes:
        name: as in the repository.
        version: as in the repository.
        model: the opened file, whose runs take all cores.
        one_core: the same file opened with one thread per run, for runs side by side; None where
            one run alone keeps the device busy.
        stamp: of the files when this was opened.
        complaint: why a newer file of this version is not used; empty where there is none.
    """

    name: str
    version: int
    model: SegmentationModel
    one_core: SegmentationModel | None = None
    stamp: Stamp = frozenset()
    complaint: str = ""

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return (self.name, self.version)

    @property
    def identity(self) -> ModelIdentity:
        """What an answer's headers say of the model."""
        return ModelIdentity(
            name=self.name,
            version=self.version,
            sha256=self.model.sha256,
            provider=self.model.provider,
            precision=self.model.precision,
        )


@dataclass(frozen=True)
class UnusedModel:
    """A version that is there and answers nothing, and why.

    Attributes:
        name: as in the repository.
        version: as in the repository.
        reason: for a person.
        state: ``failed``: its file cannot be used; ``unloaded``: an admin took it out.
        stamp: of the files when that was found.
    """

    name: str
    version: int
    reason: str
    state: Literal["failed", "unloaded"] = "failed"
    stamp: Stamp = frozenset()

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return (self.name, self.version)


Entry = ServedModel | UnusedModel


class Repository:
    """All versions by name. It is changed from the event loop only, one entry at a time."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_name: dict[str, dict[int, Entry]] = {}
        for entry in entries:
            self.put(entry)

    def put(self, entry: Entry) -> None:
        """Add a version, or take another entry for it."""
        versions = {**self._by_name.get(entry.name, {}), entry.version: entry}
        self._by_name[entry.name] = dict(sorted(versions.items()))
        self._by_name = dict(sorted(self._by_name.items()))

    def remove(self, key: ModelKey) -> None:
        """Take a version out that is there no more."""
        name, version = key
        versions = {**self._by_name[name]}
        del versions[version]
        if versions:
            self._by_name[name] = versions
        else:
            self._by_name = {n: v for n, v in self._by_name.items() if n != name}

    def entry(self, key: ModelKey) -> Entry | None:
        """Return a version, in use or not; None where there is none."""
        name, version = key
        return self._by_name.get(name, {}).get(version)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All versions, by name and version."""
        return tuple(entry for versions in self._by_name.values() for entry in versions.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(self._by_name)

    @property
    def ready(self) -> tuple[ServedModel, ...]:
        """All versions that can be used, by name and version."""
        return tuple(entry for entry in self.entries if isinstance(entry, ServedModel))

    def versions(self, name: str) -> tuple[Entry, ...]:
        """Return all versions of a model, ascending.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name not in self._by_name:
            known = ", ".join(self.names) or "none"
            raise ModelNotFound(f"there is no model of that name; there are: {known}")
        return tuple(self._by_name[name].values())

    def default(self, name: str) -> ServedModel | None:
        """Return the newest version that can be used, or None where there is none.

        Raises:
            ModelNotFound: there is no such model.
        """
        usable = [entry for entry in self.versions(name) if isinstance(entry, ServedModel)]
        return usable[-1] if usable else None

    def find(self, name: str, version: int | None = None) -> ServedModel:
        """Return a version that can be used; without a number the newest such one.

        Raises:
            ModelNotFound: no such model or version; the message lists what there is.
            ModelNotReady: it is there but cannot be used, or is not loaded.
        """
        entries = {entry.version: entry for entry in self.versions(name)}
        if version is None:
            newest = self.default(name)
            if newest is not None:
                return newest
            entry = entries[max(entries)]
        elif version in entries:
            entry = entries[version]
        else:
            known = ", ".join(str(number) for number in entries)
            raise ModelNotFound(f"{name} has no version of that number; there are: {known}")
        if isinstance(entry, UnusedModel):
            raise ModelNotReady(f"{name} version {entry.version} cannot be used: {entry.reason}")
        return entry
