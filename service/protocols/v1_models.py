"""``GET /v1/models``: what is served, and everything that a model's file says of itself."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

import service.protocols.version_path  # noqa: F401  (registers {version:version})
from service.errors import ModelNotReady
from service.protocols.openapi import problem_answer
from service.repository.repository import Entry, Repository, ServedModel, UnusedModel
from service.running import RequestTrace, RunningService

router = APIRouter(tags=["models"])
# Otherwise FastAPI documents a form of its own, which is never sent.
OPTIONS_WRONG = problem_answer("options that do not fit")
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
    state: Literal["ready", "failed", "unloaded"]
    reason: str | None = None
    sha256: str | None = None
    provider: str | None = None
    precision: str | None = None


class ModelEntry(BaseModel):
    """One model; the fields after ``versions`` are those of ``default_version``."""

    name: str
    state: Literal["ready", "failed", "unloaded"]
    reason: str | None = None
    default_version: int | None = None
    versions: list[VersionEntry]
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
    """All models."""

    models: list[ModelEntry]


class ModelDetail(ModelEntry):
    """One model with its whole spec; only the golden sample's arrays are left out."""

    spec: dict[str, Any] | None = None


@router.get("/v1/models", summary="List the models")
def list_models(running: RunningService) -> ModelIndex:
    """Return every model that is there, those that cannot be used with the reason."""
    repository = running.repository
    return ModelIndex(models=[ModelEntry(**_entry(repository, n)) for n in repository.names])


@router.get(
    "/v1/models/{model}",
    summary="Show a model",
    responses={404: problem_answer("no such model"), 422: OPTIONS_WRONG},
)
def show_model(model: ModelName, running: RunningService, trace: RequestTrace) -> ModelDetail:
    """Return a model's versions and the spec of the version that answers by default."""
    fields = _entry(running.repository, model)
    served = running.repository.default(model)
    if served is None:
        return ModelDetail(**fields)
    trace.model = served.identity
    return ModelDetail(**fields, spec=_spec(served))


@router.get(
    "/v1/models/{model}/versions/{version:version}",
    summary="Show a version of a model",
    responses={404: problem_answer("no such model or version"), 422: OPTIONS_WRONG},
)
def show_version(
    model: ModelName,
    version: Annotated[int, Path(ge=1)],
    running: RunningService,
    trace: RequestTrace,
) -> ModelDetail:
    """Return the spec of one version, or why it failed."""
    fields = _entry(running.repository, model)
    try:
        served = running.repository.find(model, version)
    except ModelNotReady as error:
        state = next(one.state for one in fields["versions"] if one.version == version)
        return ModelDetail(name=model, state=state, reason=str(error), versions=fields["versions"])
    trace.model = served.identity
    return ModelDetail(**(fields | _facts(served)), spec=_spec(served))


def _entry(repository: Repository, name: str) -> dict[str, Any]:
    versions = [_version(entry) for entry in repository.versions(name)]
    served = repository.default(name)
    fields: dict[str, Any] = {"name": name, "versions": versions}
    if served is None:
        return fields | {"state": versions[-1].state, "reason": versions[-1].reason}
    return fields | {"default_version": served.version} | _facts(served)


def _facts(served: ServedModel) -> dict[str, Any]:
    model, spec = served.model, served.model.spec
    return {
        "state": "ready",
        "sha256": model.sha256,
        "provider": model.provider,
        "precision": model.precision,
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
    if isinstance(entry, UnusedModel):
        return VersionEntry(version=entry.version, state=entry.state, reason=entry.reason)
    return VersionEntry(
        version=entry.version,
        state="ready",
        reason=entry.complaint or None,
        sha256=entry.model.sha256,
        provider=entry.model.provider,
        precision=entry.model.precision,
    )


def _spec(served: ServedModel) -> dict[str, Any]:
    arrays = {"golden": {"labels_b64", "probabilities_b64"}}
    return served.model.spec.model_dump(mode="json", exclude=arrays)
