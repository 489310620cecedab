"""Open every model under a folder and let each prove itself on the provider in use."""

import logging
import time
from contextlib import suppress
from pathlib import Path

from contract.errors import DeviceUnavailable, LongskipError, ModelBroken, ModelNotFound
from contract.gpu.use import GpuUse
from contract.metadata import read_metadata
from contract.model import Model
from contract.repository import MODEL_FILE, find_model, latest, list_models, list_versions
from contract.session import CPU_PROVIDER, Device, usable_cores, why_no_cuda
from contract.spec import ModelSpec, Precision
from service.repository.left_out import left_out
from service.repository.policy import NO_POLICY, POLICY_FILE, STABLE, Policy, read_policies
from service.repository.repository import (
    Asked,
    Entry,
    IdleModel,
    Repository,
    ServedModel,
    Stamp,
    UnusedModel,
)
from service.settings import Settings

# What a variant's spec has of its own; all else it has from the model that it was made of.
OWN_FIELDS = {"golden", "metrics", "preferred_precision"}

_log = logging.getLogger("longskip.repository")


def load_repository(settings: Settings) -> Repository:
    """Open all models; one that is broken is kept as failed and disturbs no other.

    Raises:
        DeviceUnavailable: a GPU is asked for and cannot be used; nothing is served then.
        PoliciesInvalid: ``models.yaml`` does not read, and there is no former one to go on with.
    """
    _refuse_absent_gpu(settings.device)
    if not settings.models.is_dir():
        _log.error("there is no folder %s; set LONGSKIP_MODELS", settings.models)
        return Repository(())
    for path, reason in left_out(settings.models):
        _log.warning("%r is left out: %s", str(path), reason)
    policies = read_policies(settings.models)
    repository = Repository((), policies)
    for name in list_models(settings.models):
        for entry in _wanted(settings, name, policies.get(name, NO_POLICY)):
            repository.put(entry)
    repository.complaint = repository.unmet(policies)
    if repository.complaint:
        _log.error("%s: %s", POLICY_FILE, repository.complaint)
    return repository


def _wanted(settings: Settings, name: str, policy: Policy) -> list[Entry]:
    """Read the versions of a model that its policy wants in use, and list the others."""
    there = list_versions(settings.models, name)
    entries: dict[int, Entry] = {}
    while True:
        failed = [one.version for one in entries.values() if isinstance(one, UnusedModel)]
        pending = sorted(policy.wanted(there, failed) - entries.keys())
        if not pending:
            break
        entries |= {version: read_version(settings, name, version) for version in pending}
    others = [left_aside(settings, name, version) for version in there if version not in entries]
    return [*entries.values(), *others]


def left_aside(settings: Settings, name: str, version: int) -> UnusedModel:
    """Return the entry of a version that its policy does not want in use."""
    stamp = stamp_of(settings.models / name / str(version))
    reason = f"{POLICY_FILE} leaves it out"
    return UnusedModel(name, version, reason, state="unloaded", stamp=stamp)


def read_version(settings: Settings, name: str, version: int) -> Entry:
    """Open one version, or, where versions are loaded on demand, read what its file says.

    Raises:
        DeviceUnavailable, ModelNotFound: as ``open_version``.
    """
    if settings.max_loaded is None:
        return open_version(settings, name, version)
    path = find_model(settings.models, name, version)
    stamp = stamp_of(path.parent)
    try:
        spec = ModelSpec.from_metadata(read_metadata(path), source=str(path))
    except Exception as error:  # whatever a damaged file sets off, the others are served
        return _unusable(error, name, version, path.parent, stamp)
    return IdleModel(name, version, spec, stamp)


def version_asked(root: Path, name: str, asked: Asked) -> int:
    """Return the number of the version that answers in a folder that nobody serves yet.

    Args:
        root: the folder.
        name: of the model.
        asked: a number, an alias, or None for ``stable`` and without one the newest in use.

    Raises:
        ModelNotFound: no such model or alias.
        PoliciesInvalid: ``models.yaml`` does not read.
    """
    policy = read_policies(root).get(name, NO_POLICY)
    if isinstance(asked, int):
        return asked
    if asked is None and policy.stable is None:
        newest = latest(root, name)
        return max(filter(policy.takes, list_versions(root, name)), default=newest)
    alias = STABLE if asked is None else asked
    if alias not in policy.aliases:
        known = ", ".join(policy.aliases) or "none"
        raise ModelNotFound(f"{name} has no alias {alias!r} in {POLICY_FILE}; there are: {known}")
    return policy.aliases[alias].version


def stamp_of(folder: Path) -> Stamp:
    """Return what tells a version's model files from others that take their place."""
    stamps = set()
    for path in folder.glob("*.onnx"):
        with suppress(FileNotFoundError):  # gone since it was listed
            status = path.stat()
            stamps.add((path.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return frozenset(stamps)


def open_version(settings: Settings, name: str, version: int) -> ServedModel | UnusedModel:
    """Open one version and let it prove itself; whatever is wrong with it is told, not raised.

    Raises:
        DeviceUnavailable: a GPU is asked for and cannot be used.
        ModelNotFound: it is there no more.
    """
    began_s = time.monotonic()
    path = find_model(settings.models, name, version)
    # Before it is opened: a file that changes meanwhile then has another one, and is opened again.
    stamp = stamp_of(path.parent)
    try:
        model = _open(path, settings)
        one_core = _open_for_one_core(model, settings)
        for opened in (model, *([one_core] if one_core is not None else [])):
            opened.warm_up(settings.warm_shapes, max_batch=settings.max_batch)
    except DeviceUnavailable:
        raise
    except Exception as error:  # whatever a damaged file sets off, the others are served
        return _unusable(error, name, version, path.parent, stamp)
    took_s = time.monotonic() - began_s
    _log.info(
        "%s/%d ready: %s on %s, proved in %.1f s",
        *(name, version, model.precision, model.provider, took_s),
    )
    return ServedModel(name, version, model, one_core, stamp)


def _unusable(error: Exception, name: str, version: int, folder: Path, stamp: Stamp) -> UnusedModel:
    reason = _reason(error, folder)
    _log.error("%s/%d cannot be used: %s", name, version, reason)
    return UnusedModel(name, version, reason, stamp=stamp)


def _open(path: Path, settings: Settings) -> Model:
    device = settings.device
    if settings.precision != "auto":
        return _open_file(_variant(path, settings.precision), settings)
    # Read, not opened: only the file that answers costs a session, memory and a proof.
    spec = ModelSpec.from_metadata(read_metadata(path), source=str(path))
    on_cpu = device == "cpu" or (device == "auto" and why_no_cuda() is not None)
    preferred = spec.preferred_precision.get("cpu" if on_cpu else "cuda", spec.precision)
    if preferred != spec.precision:
        try:
            model = _open_file(_variant(path, preferred), settings)
        except LongskipError as error:
            reason = _reason(error, path.parent)
            _log.warning("the preferred %s variant is left out: %s", preferred, reason)
        else:
            if on_cpu or model.provider != CPU_PROVIDER:
                return model
            # CUDA is there, but onnxruntime cannot use it: what the GPU prefers is not meant.
            return _open(path, settings.model_copy(update={"device": "cpu"}))
    return _open_file(path, settings)


def _open_file(path: Path, settings: Settings) -> Model:
    gpu = GpuUse(
        warm_shapes_hw=settings.warm_shapes,
        max_batch=settings.max_batch,
        engine_cache=settings.engine_cache,
        cuda_graphs=settings.cuda_graphs,
    )
    return Model.open(path, device=settings.device, threads=settings.threads, gpu=gpu)


def _open_for_one_core(model: Model, settings: Settings) -> Model | None:
    cores = settings.threads or usable_cores()
    if model.provider != CPU_PROVIDER or cores == 1:
        return None
    return Model.open(model.path, device="cpu", threads=1)


def _variant(path: Path, precision: Precision) -> Path:
    """``model.onnx`` holds fp32, ``model.int8.onnx`` beside it int8."""
    if precision == "fp32":
        return path
    variant = path.with_name(f"{path.stem}.{precision}{path.suffix}")
    if not variant.is_file():
        raise ModelNotFound(
            f"there is no {variant.name} beside {MODEL_FILE}; set LONGSKIP_PRECISION=auto, or "
            f"export with --precision fp32,{precision}"
        )
    specs = (
        ModelSpec.from_metadata(read_metadata(one), source=str(one)) for one in (path, variant)
    )
    whole, own = (spec.model_dump(exclude=OWN_FIELDS) for spec in specs)
    differing = sorted(name for name in whole if name != "precision" and whole[name] != own[name])
    if own["precision"] != precision:
        raise ModelBroken(
            f"{variant.name} holds {own['precision']} and not {precision}: it was swapped; put "
            "back the one of this version, or export again"
        )
    if differing:
        raise ModelBroken(
            f"{variant.name} is of another model or version than {MODEL_FILE} (they differ in "
            f"{', '.join(differing)}); put back the one of this version, or export again"
        )
    return variant


def _refuse_absent_gpu(device: Device) -> None:
    """Tell an absent GPU even where there is no model that would show it."""
    reason = why_no_cuda() if device in ("cuda", "tensorrt") else None
    if reason is not None:
        raise DeviceUnavailable(
            f"LONGSKIP_DEVICE={device} was asked for, but {reason}. Set it to auto or cpu, or "
            "repair the GPU set-up."
        )


def _reason(error: Exception, folder: Path) -> str:
    """One line without the server's folders, because it is shown to clients."""
    if not isinstance(error, LongskipError):
        return f"it could not be opened ({type(error).__name__})"
    return " ".join(str(error).replace(f"{folder}/", "").split())
