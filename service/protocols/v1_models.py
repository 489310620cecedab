"""``GET /v1/models``: what is served, and everything that a model's file says of itself."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from service.errors import ModelNotReady
from service.protocols.openapi import problem_answer
from service.protocols.version_path import Version
from service.repository.policy import Alias, Latest
from service.repository.repository import (
    Asked,
    Entry,
    Repository,
    ServedModel,
    UnusedModel,
    Usable,
)
from service.running import RequestTrace, RunningService

router = APIRouter(tags=["models"])
# Otherwise FastAPI documents a form of its own, which is never sent.
OPTIONS_WRONG = problem_answer("options that do not fit")
State = Literal["ready", "idle", "failed", "unloaded"]
ModelName = Annotated[str, Path(description="a name from `GET /v1/models`", examples=["nuclei"])]


class ClassEntry(BaseModel):
    """One class; ``index`` is the pixel value in a label PNG."""

    index: int
    name: str
    colour: tuple[int, int, int]


class SkipLevel(BaseModel):
    """One level of long skips that `skip_gain` turns: its stride in pixels, and how it joins."""

    stride: int
    kind: str


class VersionEntry(BaseModel):
    """One version; ``reason``: why it, or a newer file of it, is not used."""

    version: int
    state: State
    reason: str | None = None
    sha256: str | None = None
    provider: str | None = None
    precision: str | None = None


class ModelEntry(BaseModel):
    """One model; the fields after ``versions`` are those of ``default_version``."""

    name: str
    state: State = Field(description="`idle`: it is loaded when it is asked for")
    reason: str | None = None
    default_version: int | None = Field(
        default=None,
        description="answers where none is named, but for what a weighted alias takes",
    )
    versions: list[VersionEntry]
    in_use: Literal["all"] | Latest | list[int] = Field(
        default="all", description="`versions` of the model in `models.yaml`"
    )
    aliases: dict[str, Alias] = Field(
        default={}, description="names for versions, which go wherever a version goes"
    )
    sha256: str | None = None
    provider: str | None = None
    precision: str | None = None
    description: str | None = None
    task: str | None = None
    dims: int | None = None
    channels: int | None = None
    classes: list[ClassEntry] = []
    skip_levels: list[SkipLevel] = Field(
        default=[],
        description="finest first, one for each number of `skip_gain`; none: there is no dial",
    )
    metrics: list[dict[str, Any]] = []
    intended_use: str | None = None


class ModelIndex(BaseModel):
    """All models; ``complaint``: why ``models.yaml`` as it is now is not in force."""

    models: list[ModelEntry]
    complaint: str | None = None


class ModelDetail(ModelEntry):
    """One model with its whole spec; only the golden sample's arrays are left out."""

    spec: dict[str, Any] | None = None


@router.get("/v1/models", summary="List the models")
def list_models(running: RunningService) -> ModelIndex:
    """Return every model that is there, those that cannot be used with the reason."""
    repository = running.repository
    return ModelIndex(
        models=[ModelEntry(**_entry(repository, n)) for n in repository.names],
        complaint=repository.complaint or None,
    )


@router.get(
    "/v1/models/{model}",
    summary="Show a model",
    responses={404: problem_answer("no such model"), 422: OPTIONS_WRONG},
)
def show_model(model: ModelName, running: RunningService, trace: RequestTrace) -> ModelDetail:
    """Return a model's versions and the spec of the version that answers by default."""
    fields = _entry(running.repository, model)
    found = running.repository.default(model)
    if isinstance(found, ServedModel):
        trace.model = found.identity
    return ModelDetail(**fields, spec=_spec(found) if found is not None else None)


@router.get(
    "/v1/models/{model}/versions/{version:version}",
    summary="Show a version of a model",
    responses={404: problem_answer("no such model or version"), 422: OPTIONS_WRONG},
)
def show_version(
    model: ModelName, version: Version, running: RunningService, trace: RequestTrace
) -> ModelDetail:
    """Return the spec of one version, or why it failed."""
    fields = _entry(running.repository, model)
    try:
        found = running.repository.find(model, version)
    except ModelNotReady as error:
        kept = {name: fields[name] for name in ("name", "versions", "in_use", "aliases")}
        return ModelDetail(**kept, **_out_of_use(running.repository, model, version, str(error)))
    if isinstance(found, ServedModel):
        trace.model = found.identity
    return ModelDetail(**(fields | _facts(found)), spec=_spec(found))


def _entry(repository: Repository, name: str) -> dict[str, Any]:
    policy = repository.policy(name)
    versions = [_version(entry) for entry in repository.versions(name)]
    fields: dict[str, Any] = {
        "name": name,
        "versions": versions,
        "in_use": policy.versions,
        "aliases": policy.aliases,
    }
    try:
        found = repository.find(name)
    except ModelNotReady as error:
        return fields | _out_of_use(repository, name, policy.stable, str(error))
    return fields | {"default_version": found.version} | _facts(found)


def _out_of_use(repository: Repository, name: str, version: Asked, reason: str) -> dict[str, Any]:
    """Return why a version cannot be asked; None is the newest, text an alias."""
    if isinstance(version, str):
        version = repository.policy(name).aliases[version].version
    newest = repository.versions(name)[-1]
    entry = newest if version is None else repository.entry((name, version))
    return {"state": entry.state if isinstance(entry, UnusedModel) else "failed", "reason": reason}


def _facts(found: Usable) -> dict[str, Any]:
    spec = found.spec
    return {
        **_state(found),
        "description": spec.description,
        "task": spec.task,
        "dims": spec.dims,
        "channels": spec.channels,
        "classes": [
            ClassEntry(index=index, name=c.name, colour=c.colour)
            for index, c in enumerate(spec.classes)
        ],
        "skip_levels": [
            SkipLevel(stride=stride, kind=kind)
            for stride, kind in zip(spec.skip_gain_strides, spec.net.long_skips, strict=False)
        ],
        "metrics": [metric.model_dump(mode="json") for metric in spec.metrics],
        "intended_use": spec.intended_use,
    }


def _version(entry: Entry) -> VersionEntry:
    return VersionEntry(version=entry.version, **_state(entry))


def _state(entry: Entry) -> dict[str, Any]:
    if not isinstance(entry, ServedModel):
        return {"state": entry.state, "reason": entry.reason}
    return {
        "state": "ready",
        "reason": entry.complaint or None,
        "sha256": entry.model.sha256,
        "provider": entry.model.provider,
        "precision": entry.model.precision,
    }


def _spec(found: Usable) -> dict[str, Any]:
    arrays = {"golden": {"labels_b64", "probabilities_b64"}}
    return found.spec.model_dump(mode="json", exclude=arrays)
