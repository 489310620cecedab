"""The box of an engine, and that a model keeps to it; there is no TensorRT here to build one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import DeviceUnavailable, ImageTooLarge
from contract.gpu.tensorrt import EngineShapes, engine_shapes, plan_engine
from contract.gpu.use import GpuUse
from contract.model import Model
from contract.spec import Tiles
from tests.contract.gpu.as_on_gpu import as_on_tensorrt

BOTH = ("labels", "probabilities")

Build = Callable[..., Path]
OpenModel = Callable[..., Model]
Picture = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "use", "batch", "largest", "usual"),
    [
        # 1024 = 32 x 32 pixels at most; the golden sample has 48 x 40.
        ({}, GpuUse(max_batch=8), 1, (48, 40), (32, 32)),
        ({}, GpuUse(((16, 20),), 8), 1, (48, 40), (16, 20)),
        # 10 000 pixels: as many of 64 x 48 as have no more together.
        ({"limit": 10_000}, GpuUse(((64, 48), (20, 20)), 8), 3, (64, 48), (64, 48)),
        ({"limit": 10_000}, GpuUse(((64, 48),), 2), 2, (64, 48), (64, 48)),
        ({"limit": 10_000}, GpuUse(max_batch=8), 1, (100, 100), (100, 100)),
        # What the model takes in tiles only makes no box larger; a tile does.
        ({"limit": 10_000}, GpuUse(((200, 200), (50, 50)), 8), 4, (50, 50), (50, 50)),
        (
            {"limit": 10_000, "tiles": Tiles(patch=(56, 64))},
            GpuUse(((50, 50),), 8),
            2,
            (56, 64),
            (50, 50),
        ),
        (
            {"limit": 10_000, "tiles": Tiles(patch=(56, 64))},
            GpuUse(),
            1,
            (100, 100),
            (56, 64),
        ),
    ],
)
def test_the_box_holds_what_is_asked_for_in_the_memory_of_one_image(
    open_threshold_model: OpenModel,
    options: dict[str, Any],
    use: GpuUse,
    batch: int,
    largest: tuple[int, int],
    usual: tuple[int, int],
) -> None:
    limit = options.pop("limit", 1024)
    spec = open_threshold_model(whole_image_max_pixels=limit, **options).spec
    shapes = engine_shapes(spec, use)
    assert shapes == EngineShapes(batch, largest, usual)
    assert shapes.batch == 1 or shapes.batch * np.prod(shapes.largest) <= limit
    assert shapes.takes(spec.golden.shape_chw[1:])


def test_the_options_name_every_input_with_its_shapes(
    open_threshold_model: OpenModel,
) -> None:
    use = GpuUse(((50, 60),), 3)
    plain = open_threshold_model(channels=2, with_statistics=False)
    assert plan_engine(plain.path, plain.spec, use).options == {
        "trt_profile_min_shapes": "image:1x2x1x1",
        "trt_profile_opt_shapes": "image:3x2x50x60",
        "trt_profile_max_shapes": "image:3x2x50x60",
    }
    dial = open_threshold_model(channels=2, with_dial=True)
    options = plan_engine(dial.path, dial.spec, use).options
    assert options["trt_profile_min_shapes"] == "image:1x2x1x1,statistics:1x2x2,skip_gain:1x2"
    assert options["trt_profile_max_shapes"] == "image:3x2x50x60,statistics:3x2x2,skip_gain:3x2"


def test_engines_of_another_file_lie_elsewhere_and_timings_are_shared(
    tmp_path: Path, build_threshold_model: Build
) -> None:
    use = GpuUse(engine_cache=tmp_path / "engines")
    options = []
    for name, threshold in (("a", 0.25), ("b", 0.5), ("a", 0.25)):
        model = Model.open(
            build_threshold_model(tmp_path / f"{name}.onnx", threshold=threshold),
            device="cpu",
            threads=1,
        )
        found = plan_engine(model.path, model.spec, use).options
        assert model.sha256 in found["trt_engine_cache_path"]
        assert Path(found["trt_engine_cache_path"]).is_dir()
        assert found["trt_timing_cache_path"] in found["trt_engine_cache_path"]
        # "1" is refused: see test_gpu_options.py.
        assert found["trt_engine_cache_enable"] == found["trt_timing_cache_enable"] == "True"
        options.append(found)
    assert options[0] == options[2] != options[1]
    assert options[0]["trt_timing_cache_path"] == options[1]["trt_timing_cache_path"]


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, open_threshold_model: OpenModel
) -> None:
    model = open_threshold_model()
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(DeviceUnavailable, match=r"cannot be kept in .*engines.*or none"):
        plan_engine(model.path, model.spec, GpuUse(engine_cache=tmp_path / "engines"))


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (160, 130)])  # below and above UNBOUND_PIXELS
@pytest.mark.parametrize("given", [{}, {"statistics": np.array([[[90, 40]]], np.float32)}])
def test_more_images_than_an_engine_takes_run_after_each_other(
    open_threshold_model: OpenModel,
    picture: Picture,
    size: tuple[int, int],
    given: dict[str, Any],
) -> None:
    images = np.stack([picture(1, *size, seed=n) * (n + 1) for n in range(5)])
    plain = open_threshold_model(with_dial=True)
    boxed = as_on_tensorrt(plain, EngineShapes(2, (160, 130), (160, 130)))
    options = {"outputs": BOTH, "skip_gain": np.array([[0.5, 1]] * 4 + [[2, 0]], np.float32)}
    expected, found = (model.run(images, **options, **given) for model in (plain, boxed))
    # Own statistics are reduced here, by another order of the sum than the graph's.
    exact = given or size == (1, 1)
    for name in BOTH:
        if exact:
            np.testing.assert_array_equal(found[name], expected[name])
        else:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_past_the_box_an_image_is_tiled_or_refused(
    open_threshold_model: OpenModel, picture: Picture
) -> None:
    shapes, tiles = EngineShapes(1, (60, 70), (60, 70)), Tiles(patch=(48, 64))
    image = picture(1, 61, 30)
    plain = open_threshold_model(tiles=tiles)
    model = as_on_tensorrt(plain, shapes)
    assert not model.segment(picture(1, 60, 70)).tiled
    answer = model.segment(image)
    assert answer.tiled
    np.testing.assert_array_equal(answer.labels, plain.segment(image, in_tiles=True).labels)
    with pytest.raises(ImageTooLarge, match=r"61 x 30 pixels.*up to 60 x 70"):
        model.run(image[None])
    with pytest.raises(ImageTooLarge, match=r"61 x 30 pixels.*up to 60 x 70"):
        as_on_tensorrt(open_threshold_model(), shapes).segment(image)
