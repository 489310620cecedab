"""Which file of a version is opened, and what becomes of one that cannot be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from pydantic import ValidationError

from contract.errors import DeviceUnavailable, ModelNotFound
from contract.gpu.use import NO_PLANS, GpuUse
from contract.model import Model
from contract.session import why_no_cuda
from contract.spec import METADATA_KEY, ModelSpec
from service.errors import ModelNotReady
from service.repository.load import load_repository, open_version
from service.repository.repository import ServedModel
from service.settings import Settings

Build = Callable[..., Path]


def _rewrite_spec(path: Path, **changes: object) -> None:
    model = onnx.load(path)
    (entry,) = [p for p in model.metadata_props if p.key == METADATA_KEY]
    spec = ModelSpec.from_metadata({METADATA_KEY: entry.value}, source="test")
    entry.value = spec.model_copy(update=changes).to_metadata()
    onnx.save(model, path)


@pytest.fixture
def with_variant(tmp_path: Path, build_threshold_model: Build) -> Path:
    """A model that prefers int8 on the CPU, with its int8 variant beside it."""
    path = build_threshold_model(tmp_path / "m" / "1" / "model.onnx", name="m")
    variant = path.with_name("model.int8.onnx")
    shutil.copy(path, variant)
    _rewrite_spec(path, preferred_precision={"cpu": "int8"})
    _rewrite_spec(variant, precision="int8")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "served"), [("auto", "int8"), ("fp32", "fp32"), ("int8", "int8")]
)
def test_precision_picks_the_variant(with_variant: Path, asked: str, served: str) -> None:
    settings = Settings(models=with_variant, device="cpu", precision=asked, threads=1)
    assert load_repository(settings).find("m").model.precision == served


def test_only_the_file_that_answers_is_opened(with_variant: Path) -> None:
    """The fp32 file holds an operator that there is not, so opening it would fail."""
    path = with_variant / "m" / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    for asked, served in (("auto", "int8"), ("int8", "int8")):
        settings = Settings(models=with_variant, device="cpu", precision=asked, threads=1)
        assert load_repository(settings).find("m").model.precision == served
    settings = Settings(models=with_variant, device="cpu", precision="fp32", threads=1)
    with pytest.raises(ModelNotReady, match="NoSuchOperator"):
        load_repository(settings).find("m")


def test_a_preferred_variant_that_is_missing_or_broken_leaves_the_model_itself(
    with_variant: Path,
) -> None:
    settings = Settings(models=with_variant, device="cpu", threads=1)
    variant = with_variant / "m" / "1" / "model.int8.onnx"
    variant.write_bytes(b"torn")
    assert load_repository(settings).find("m").model.precision == "fp32"
    variant.unlink()
    assert load_repository(settings).find("m").model.precision == "fp32"


def test_a_precision_that_is_demanded_and_absent_fails_the_model(with_variant: Path) -> None:
    settings = Settings(models=with_variant, device="cpu", precision="fp16", threads=1)
    with pytest.raises(ModelNotReady, match=r"model\.fp16\.onnx"):
        load_repository(settings).find("m")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"precision": "fp16"}, "holds fp16 and not int8"), ({"licence": "other"}, "licence")],
)
def test_a_variant_that_was_swapped_is_not_served(
    with_variant: Path, changes: dict[str, object], said: str
) -> None:
    _rewrite_spec(with_variant / "m" / "1" / "model.int8.onnx", **changes)
    settings = Settings(models=with_variant, device="cpu", precision="int8", threads=1)
    with pytest.raises(ModelNotReady, match=said):
        load_repository(settings).find("m")
    auto = settings.model_copy(update={"precision": "auto"})
    assert load_repository(auto).find("m").model.precision == "fp32"


def test_the_newest_usable_version_answers(models: Path) -> None:
    repository = load_repository(Settings(models=models, device="cpu", threads=1))
    assert repository.find("colour").version == 2
    assert repository.find("colour", 1).version == 1
    with pytest.raises(ModelNotReady, match="golden"):
        repository.find("colour", 3)
    with pytest.raises(ModelNotFound, match="1, 2, 3"):
        repository.find("colour", 4)
    with pytest.raises(ModelNotFound, match="grey"):
        repository.find("nowhere")
    assert repository.default("foreign") is None


def test_an_absent_folder_has_no_models(tmp_path: Path) -> None:
    repository = load_repository(Settings(models=tmp_path / "none", device="cpu"))
    assert repository.names == ()


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_an_absent_gpu_is_told_even_without_models(tmp_path: Path, device: str) -> None:
    if why_no_cuda() is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceUnavailable, match=f"LONGSKIP_DEVICE={device}"):
        load_repository(Settings(models=tmp_path, device=device))


def test_warm_shapes_are_run_before_a_model_answers_and_only_those_that_it_takes_whole(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[int, ...]] = []
    run = Model.run

    def noting(self: Model, image_nchw: Any, **options: Any) -> Any:
        ran.append(image_nchw.shape)
        return run(self, image_nchw, **options)

    monkeypatch.setattr(Model, "run", noting)
    shapes = "30x40, 64x64,64x65"
    settings = Settings(models=models, device="cpu", threads=2, warm_shapes=shapes)
    assert isinstance(open_version(settings, "tiled", 1), ServedModel)
    # Once with all cores and once with one.
    assert ran.count((1, 1, 30, 40)) == ran.count((1, 1, 64, 64)) == 2
    assert (1, 1, 64, 65) not in ran


@pytest.mark.parametrize("given", ["256", "256x", "0x5", "-1x5", "axb", "256 x 256"])
def test_a_warm_shape_that_is_none_is_told(given: str) -> None:
    with pytest.raises(ValidationError, match="such as 256x256,512x512"):
        Settings(warm_shapes=given)


@pytest.mark.parametrize(
    "settings",
    [{"device": "cuda"}, {"warm_shapes": "64x64"}, {"device": "tensorrt", "warm_shapes": "64x64"}],
)
def test_cuda_graphs_want_cuda_and_shapes(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="warm_shapes on the device cuda"):
        Settings(cuda_graphs=True, **settings)


def test_what_is_set_for_a_gpu_reaches_the_model(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GpuUse] = []
    open_model = Model.open.__func__

    def noting(cls: type[Model], path: Path, *, gpu: GpuUse = NO_PLANS, **options: Any) -> Model:
        asked.append(gpu)
        return open_model(cls, path, **{**options, "device": "cpu"})

    monkeypatch.setattr(Model, "open", classmethod(noting))
    settings = Settings(
        models=models,
        device="cuda",
        threads=1,
        warm_shapes="30x40",
        max_batch=5,
        engine_cache=tmp_path,
        cuda_graphs=True,
    )
    assert isinstance(open_version(settings, "grey", 1), ServedModel)
    assert asked == [GpuUse(((30, 40),), 5, tmp_path, True)]
