"""What this process serves: every version found at start, ready or failed with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.errors import ModelNotFound
from service.engine.run import SegmentationModel
from service.errors import ModelNotReady
from service.trace import ModelIdentity

ModelKey = tuple[str, int]
"""Name and version."""


@dataclass(frozen=True)
class ServedModel:
    """A version that proved itself on the provider in use.

    Attributes:
        name: as in the repository.
        version: as in the repository.
        model: the opened file, whose runs take all cores.
        one_core: the same file opened with one thread per run, for runs side by side; None where
            one run alone keeps the device busy.
    """

    name: str
    version: int
    model: SegmentationModel
    one_core: SegmentationModel | None = None

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
class FailedModel:
    """A version that cannot be used, and why."""

    name: str
    version: int
    reason: str


Entry = ServedModel | FailedModel


class Repository:
    """All versions by name; never changes after the start."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        by_name: dict[str, dict[int, Entry]] = {}
        for entry in sorted(entries, key=lambda entry: (entry.name, entry.version)):
            by_name.setdefault(entry.name, {})[entry.version] = entry
        self._by_name = by_name

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(self._by_name)

    @property
    def ready(self) -> tuple[ServedModel, ...]:
        """All versions that can be used, by name and version."""
        return tuple(
            entry
            for versions in self._by_name.values()
            for entry in versions.values()
            if isinstance(entry, ServedModel)
        )

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
            ModelNotReady: it is there but failed.
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
        if isinstance(entry, FailedModel):
            raise ModelNotReady(f"{name} version {entry.version} cannot be used: {entry.reason}")
        return entry
