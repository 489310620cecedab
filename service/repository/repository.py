"""What this process serves: every version found, in use or not, with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from contract.errors import ModelNotFound
from contract.spec import ModelSpec
from service.engine.run import SegmentationModel
from service.errors import ModelNotReady
from service.repository.policy import NO_POLICY, STABLE, Policies, Policy
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
    state: ClassVar[Literal["ready"]] = "ready"

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return (self.name, self.version)

    @property
    def spec(self) -> ModelSpec:
        """What the file promises."""
        return self.model.spec

    @cached_property
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
class IdleModel:
    """A version that is loaded when somebody asks for it.

    Attributes:
        name: as in the repository.
        version: as in the repository.
        spec: read from the file; it has not proved itself on this device yet.
        stamp: of the files when that was read.
    """

    name: str
    version: int
    spec: ModelSpec = field(repr=False)
    stamp: Stamp = frozenset()
    state: ClassVar[Literal["idle"]] = "idle"
    reason: ClassVar[str] = "it is loaded when it is asked for"

    @property
    def key(self) -> ModelKey:
        """Name and version."""
        return (self.name, self.version)


@dataclass(frozen=True)
class UnusedModel:
    """A version that is there and answers nothing, and why.

    Attributes:
        name: as in the repository.
        version: as in the repository.
        reason: for a person.
        state: ``failed``: its file cannot be used; ``unloaded``: an admin, or the policy of its
            model, takes it out.
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


Usable = ServedModel | IdleModel
Entry = Usable | UnusedModel
Asked = int | str | None
"""A version as a request names it: its number, an alias, or none."""


class Repository:
    """All versions by name. It is changed from the event loop only, one entry at a time.

    Attributes:
        policies: in force, by the model's name.
        complaint: why ``models.yaml``, or a part of it, is not in force; empty where it is.
    """

    def __init__(self, entries: Iterable[Entry], policies: Policies | None = None) -> None:
        self.policies: Policies = policies or {}
        self.complaint = ""
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
        """All versions that are loaded, by name and version."""
        return tuple(entry for entry in self.entries if isinstance(entry, ServedModel))

    @property
    def usable(self) -> tuple[Usable, ...]:
        """All versions that can be asked, loaded or not, by name and version."""
        return tuple(entry for entry in self.entries if not isinstance(entry, UnusedModel))

    def versions(self, name: str) -> tuple[Entry, ...]:
        """Return all versions of a model, ascending.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name not in self._by_name:
            known = ", ".join(self.names) or "none"
            raise ModelNotFound(f"there is no model of that name; there are: {known}")
        return tuple(self._by_name[name].values())

    def policy(self, name: str) -> Policy:
        """Return what is in force for a model."""
        return self.policies.get(name, NO_POLICY)

    def find(self, name: str, version: Asked = None, *, request_id: str = "") -> Usable:
        """Return a version that can be asked.

        Args:
            name: of the model.
            version: None means the alias ``stable``, and without one the newest that can be used.
            request_id: of a request for an answer, some of which a weighted alias takes; without
                one, none does.

        Raises:
            ModelNotFound: no such model, version or alias; the message lists what there is.
            ModelNotReady: it is there but cannot be used, or is not loaded.
        """
        entries = self.versions(name)
        policy = self.policies.get(name)
        if version is None:
            if policy is None:
                return _newest(entries)
            drawn = policy.draw(name, request_id) if request_id else None
            chosen = self.entry((name, drawn)) if drawn is not None else None
            if chosen is not None and not isinstance(chosen, UnusedModel):
                return chosen
            if policy.stable is None:
                return _newest([entry for entry in entries if policy.takes(entry.version)])
            version = STABLE
        if isinstance(version, str):
            return self._by_alias(name, version)
        entry = self.entry((name, version))
        if entry is None:
            known = ", ".join(str(entry.version) for entry in entries)
            raise ModelNotFound(f"{name} has no version of that number; there are: {known}")
        if isinstance(entry, UnusedModel):
            raise ModelNotReady(f"{name} version {version} cannot be used: {entry.reason}")
        return entry

    def _by_alias(self, name: str, alias: str) -> Usable:
        aliases = self.policy(name).aliases
        if alias not in aliases:
            known = ", ".join(aliases) or "none"
            raise ModelNotFound(f"{name} has no alias of that name; there are: {known}")
        version = aliases[alias].version
        entry = self.entry((name, version))
        if entry is None or isinstance(entry, UnusedModel):
            reason = "it is not in the folder" if entry is None else entry.reason
            raise ModelNotReady(
                f"{name} {alias} is version {version}, which cannot be used: {reason}"
            )
        return entry

    def unmet(self, policies: Policies) -> str:
        """Return what these policies name that cannot be used, or an empty text."""
        faults = []
        for name, policy in policies.items():
            there = self._by_name.get(name, {}).keys()
            missing = sorted(policy.named() - there)
            if not there:
                faults.append(f"there is no model {name}")
            elif missing:
                numbers = ", ".join(map(str, missing))
                faults.append(f"the folder holds no version {numbers} of {name}")
            for alias, target in policy.aliases.items():
                entry = self.entry((name, target.version))
                if isinstance(entry, UnusedModel) and entry.state == "failed":
                    faults.append(
                        f"{name} {alias} is version {target.version}, which cannot be used: "
                        f"{entry.reason}"
                    )
        return "; ".join(faults)

    def default(self, name: str) -> Usable | None:
        """Return the version that answers where none is named, or None where none can.

        Raises:
            ModelNotFound: there is no such model.
        """
        self.versions(name)
        try:
            return self.find(name)
        except (ModelNotFound, ModelNotReady):
            return None


def _newest(entries: Iterable[Entry]) -> Usable:
    """Return the newest that can be used.

    Raises:
        ModelNotReady: there is none.
    """
    ordered = list(entries)
    usable = [entry for entry in ordered if not isinstance(entry, UnusedModel)]
    if usable:
        return usable[-1]
    if not ordered:
        raise ModelNotReady("none of the versions that models.yaml names is in the folder")
    last = ordered[-1]
    reason = last.reason if isinstance(last, UnusedModel) else ""
    raise ModelNotReady(f"{last.name} version {last.version} cannot be used: {reason}")
