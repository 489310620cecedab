"""What the Open Inference Protocol says of a model: its tensors, its configuration, its counts."""

from typing import Any

from fastapi import APIRouter

from service.counts import Duration, VersionCounts
from service.protocols.v2_health import MODEL_RESPONSES
from service.protocols.v2_openapi import CONFIGURATION_ANSWER, METADATA_ANSWER, STATISTICS_ANSWER
from service.protocols.version_path import VersionIfNamed
from service.repository.policy import Latest, Policy
from service.repository.repository import Asked, ServedModel, Usable
from service.running import RequestTrace, Running, RunningService

router = APIRouter(tags=["infer"])

FREE = -1
PLATFORM = "onnxruntime_onnx"
Tensor = dict[str, Any]


@router.get(
    "/v2/models/stats",
    summary="Counts and times of all models",
    responses={200: STATISTICS_ANSWER, **MODEL_RESPONSES},
)
def all_statistics(running: RunningService) -> dict[str, Any]:
    """Return what each version was asked since the start, as Triton's statistics extension."""
    return _statistics(running, running.repository.usable)


@router.get(
    "/v2/models/{model}",
    summary="Show a model's tensors",
    responses={200: METADATA_ANSWER, **MODEL_RESPONSES},
)
@router.get(
    "/v2/models/{model}/versions/{version:version}",
    summary="Show the tensors of a version",
    responses={200: METADATA_ANSWER, **MODEL_RESPONSES},
)
async def metadata(
    model: str, running: RunningService, trace: RequestTrace, version: VersionIfNamed
) -> dict[str, Any]:
    """Return names, datatypes and shapes; -1 is a size that the model leaves open."""
    served = await _find(model, version, running, trace)
    return {
        "name": served.name,
        "versions": [
            str(other.version)
            for other in running.repository.usable
            if other.name == served.name and (version is None or other.key == served.key)
        ],
        "platform": PLATFORM,
        "inputs": [_with_batch(tensor) for tensor in inputs(served)],
        "outputs": [_with_batch(tensor) for tensor in outputs(served)],
    }


@router.get(
    "/v2/models/{model}/config",
    summary="Show a model's configuration",
    responses={200: CONFIGURATION_ANSWER, **MODEL_RESPONSES},
)
@router.get(
    "/v2/models/{model}/versions/{version:version}/config",
    summary="Show the configuration of a version",
    responses={200: CONFIGURATION_ANSWER, **MODEL_RESPONSES},
)
async def configuration(
    model: str, running: RunningService, trace: RequestTrace, version: VersionIfNamed
) -> dict[str, Any]:
    """Return Triton's model configuration; the batch is no part of ``dims``."""
    served = await _find(model, version, running, trace)
    on_cpu = served.model.provider.startswith("CPU")
    return {
        "name": served.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": _version_policy(running.repository.policy(served.name)),
        "max_batch_size": running.settings.max_batch,
        "input": [
            _configured(tensor) | {"format": "FORMAT_NONE", "optional": tensor["name"] != "image"}
            for tensor in inputs(served)
        ],
        "output": [_configured(tensor) for tensor in outputs(served)],
        "instance_group": [{"kind": "KIND_CPU" if on_cpu else "KIND_GPU", "count": 1}],
        "default_model_filename": "model.onnx",
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
        "parameters": {
            key: {"string_value": value}
            for key, value in (
                ("sha256", served.model.sha256),
                ("provider", served.model.provider),
                ("precision", served.model.precision),
            )
        },
    }


@router.get(
    "/v2/models/{model}/stats",
    summary="Counts and times",
    responses={200: STATISTICS_ANSWER, **MODEL_RESPONSES},
)
@router.get(
    "/v2/models/{model}/versions/{version:version}/stats",
    summary="Counts and times of a version",
    responses={200: STATISTICS_ANSWER, **MODEL_RESPONSES},
)
def statistics(
    model: str, running: RunningService, trace: RequestTrace, version: VersionIfNamed
) -> dict[str, Any]:
    """Return what a model was asked since the start, as Triton's statistics extension."""
    found = running.repository.find(model, version)
    if isinstance(found, ServedModel):
        trace.model = found.identity
    if version is not None:
        return _statistics(running, (found,))
    return _statistics(running, tuple(s for s in running.repository.usable if s.name == model))


def inputs(served: ServedModel) -> list[Tensor]:
    """Return the inputs, without the batch."""
    spec = served.model.spec
    image = _tensor("image", "FP32", [spec.channels, *[FREE] * spec.dims])
    levels = len(spec.skip_gain_strides)
    return [image, *([_tensor("skip_gain", "FP32", [levels])] if levels else [])]


def outputs(served: ServedModel) -> list[Tensor]:
    """Return the outputs, without the batch."""
    spec = served.model.spec
    space = [FREE] * spec.dims
    planes = [len(spec.classes)]
    each = planes if spec.task == "multilabel" else []
    shapes = {"labels": [*each, *space], "probabilities": [*planes, *space]}
    return [
        _tensor(name, "UINT8" if name == "labels" else "FP32", shapes.get(name, [*each, *space]))
        for name in served.model.outputs
    ]


def _tensor(name: str, datatype: str, shape: list[int]) -> Tensor:
    return {"name": name, "datatype": datatype, "shape": shape}


def _with_batch(tensor: Tensor) -> Tensor:
    return {**tensor, "shape": [FREE, *tensor["shape"]]}


def _configured(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor["name"],
        "data_type": f"TYPE_{tensor['datatype']}",
        "dims": tensor["shape"],
    }


async def _find(model: str, version: Asked, running: Running, trace: RequestTrace) -> ServedModel:
    """Find a version, loaded: all its outputs stand in the graph alone."""
    served = await running.keeper.find(model, version, trace, drawn=False)
    trace.model = served.identity
    return served


def _version_policy(policy: Policy) -> dict[str, Any]:
    if isinstance(policy.versions, Latest):
        return {"latest": {"num_versions": policy.versions.latest}}
    if isinstance(policy.versions, tuple):
        return {"specific": {"versions": list(policy.versions)}}
    return {"all": {}}


def _statistics(running: Running, served: tuple[Usable, ...]) -> dict[str, Any]:
    counts = running.metrics.counts
    return {"model_stats": [_version_statistics(one, counts.of(*one.key)) for one in served]}


def _version_statistics(served: Usable, counts: VersionCounts) -> dict[str, Any]:
    nothing = _duration(Duration())
    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": round(counts.last_unix_s * 1e3),
        "inference_count": counts.images,
        "execution_count": sum(duration.count for duration in counts.batches.values()),
        "inference_stats": {
            "success": _duration(counts.requests["success"]),
            # Triton's typed messages have no place for who went away.
            "fail": _sum(counts.requests["fail"], counts.requests["cancel"]),
            **{name: _duration(duration) for name, duration in counts.parts.items()},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": images,
                "compute_input": nothing,
                "compute_infer": _duration(duration),
                "compute_output": nothing,
            }
            for images, duration in sorted(counts.batches.items())
        ],
        "response_stats": {},
        "memory_usage": [],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": round(duration.seconds * 1e9)}


def _sum(*durations: Duration) -> dict[str, int]:
    return _duration(Duration(sum(d.count for d in durations), sum(d.seconds for d in durations)))
