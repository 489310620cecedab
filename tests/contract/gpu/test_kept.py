"""Runs by kept arrays give the bits of other runs; here the arrays stay in the CPU's memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from contract.errors import DeviceUnavailable, RunHalted
from contract.gpu import kept as kept_module
from contract.gpu.kept import KeptRuns
from contract.gpu.use import in_gpu_thread
from contract.halt import Halt
from contract.model import Model
from contract.session import GRAPHS_REFUSED
from tests.contract.gpu.as_on_gpu import as_on_cuda

BOTH = ("labels", "probabilities")
SIZES = ((33, 47), (160, 130), (1, 1))  # below and above UNBOUND_PIXELS

OpenModel = Callable[..., Model]
Picture = Callable[..., Any]


def kept_of(model: Model) -> dict[Any, Any]:
    assert model.on_gpu is not None
    return model.on_gpu.kept._kept


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("with_dial", [False, True])
def test_kept_and_other_runs_give_the_same_bits(
    open_threshold_model: OpenModel, picture: Picture, with_dial: bool, graphs: bool
) -> None:
    plain = open_threshold_model(channels=2, with_dial=with_dial)
    model = as_on_cuda(plain, graphs=graphs)
    model.warm_up(SIZES[:2], max_batch=3)
    assert len(kept_of(model)) == 2 * 3
    gain = {"skip_gain": np.array([[0.5, 2]], np.float32)} if with_dial else {}
    given = np.array([[[90, 40], [80, 30]]], np.float32)
    for outputs in (("labels",), BOTH):
        for size in SIZES:
            for batch in (1, 3, 4):
                images = np.stack([picture(2, *size, seed=n) * (n + 1) for n in range(batch)])
                for options in ({}, {"statistics": given}, gain):
                    expected = plain.run(images, outputs=outputs, **options)
                    found = model.run(images, outputs=outputs, **options)
                    assert list(found) == list(outputs)
                    for name in outputs:
                        assert found[name].dtype == expected[name].dtype
                        np.testing.assert_array_equal(found[name], expected[name])
    assert len(kept_of(model)) == 2 * 3, "a run keeps nothing, only warming up does"


@pytest.mark.parametrize("file", ["model.onnx", "model.fp16.onnx", "model.int8.onnx"])
def test_a_shipped_model_gives_the_same_bits(repository_root: Path, file: str) -> None:
    path = repository_root / "models" / "nuclei" / "1" / file
    plain = Model.open(path, device="cpu", threads=2, prove=False)
    model = as_on_cuda(plain)
    model.warm_up([(64, 80)], max_batch=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 80)).astype(np.float32)
    for batch in (images, images[::-1].copy(), images[1:]):
        np.testing.assert_array_equal(model.run(batch)["labels"], plain.run(batch)["labels"])


def test_an_answer_stays_as_it_is_when_the_next_image_runs(
    open_threshold_model: OpenModel, picture: Picture
) -> None:
    model = as_on_cuda(open_threshold_model())
    model.warm_up([(20, 31)], max_batch=1)
    first = model.run(picture(1, 20, 31)[None])["labels"]
    before = first.copy()
    second = model.run(255 - picture(1, 20, 31)[None])["labels"]
    assert (first != second).any()
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("graphs", [False, True])
def test_runs_at_one_time_do_not_take_each_other_s_arrays(
    open_threshold_model: OpenModel, picture: Picture, graphs: bool
) -> None:
    plain = open_threshold_model()
    model = as_on_cuda(plain, graphs=graphs)
    model.warm_up([(160, 130), (33, 47)], max_batch=2)
    sizes = [(160, 130), (33, 47), (40, 40)]
    images = [picture(1, *sizes[n % 3], seed=n)[None] * (1 + n % 5) for n in range(60)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda image: model.run(image)["labels"], images))
    for image, labels in zip(images, found, strict=True):
        np.testing.assert_array_equal(labels, plain.run(image)["labels"])


def test_no_more_are_kept_than_there_is_room_for(
    open_threshold_model: OpenModel, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "MOST_KEPT", 2)
    plain = open_threshold_model()
    model = as_on_cuda(plain)
    model.warm_up([(8, 9), (10, 11)], max_batch=4)
    assert len(kept_of(model)) == 2
    images = np.stack([picture(1, 10, 11, seed=n) for n in range(4)])
    np.testing.assert_array_equal(model.run(images)["labels"], plain.run(images)["labels"])


def test_batches_that_never_come_are_not_kept(open_threshold_model: OpenModel) -> None:
    """The service puts no more pixels into one batch than the model takes as one image."""
    model = as_on_cuda(open_threshold_model(whole_image_max_pixels=3000, tileable=False))
    model.warm_up([(30, 40), (60, 60)], max_batch=8)
    shapes = sorted(dict(key)["image"] for key in kept_of(model))
    assert shapes == [(1, 1, 30, 40), (2, 1, 30, 40)]


def test_a_run_is_recorded_under_a_number_of_its_own_and_others_are_not(
    open_threshold_model: OpenModel,
) -> None:
    model = open_threshold_model(with_statistics=False)
    runs = KeptRuns(model.session, device="cpu", graphs=True)
    numbers = []
    for size in ((4, 5), (6, 7), (8, 9)):
        feeds = {"image": np.zeros((1, 1, *size), np.float32)}
        answers = {"labels": np.empty((1, *size), np.uint8)}
        if size != (8, 9):
            runs.keep(feeds, answers)
        options = ort.RunOptions()
        runs.run(feeds, answers, options)
        numbers.append(options.get_run_config_entry("gpu_graph_id"))
    assert numbers == ["1", "2", "-1"]


def test_with_graphs_all_runs_share_one_thread_and_no_memory_is_handed_back(
    open_threshold_model: OpenModel,
) -> None:
    thread = in_gpu_thread(threading.get_ident)
    assert thread != threading.get_ident()
    with ThreadPoolExecutor(2) as threads:
        found = [threads.submit(in_gpu_thread, threading.get_ident) for _ in range(8)]
    assert {one.result() for one in found} == {thread}
    for graphs in (False, True):
        model = as_on_cuda(open_threshold_model(), graphs=graphs)
        assert model.on_gpu is not None
        assert model.on_gpu.may_shrink is not graphs
        model.hand_memory_back()


def test_a_kept_run_can_be_halted(open_threshold_model: OpenModel) -> None:
    model = as_on_cuda(open_threshold_model())
    model.warm_up([(20, 31)], max_batch=1)
    halt = Halt()
    halt.ask()
    with pytest.raises(RunHalted):
        model.run(np.zeros((1, 1, 20, 31), np.float32), halt=halt)


@pytest.mark.parametrize("graphs", [False, True])
def test_what_cannot_be_kept_is_told(open_threshold_model: OpenModel, graphs: bool) -> None:
    model = open_threshold_model()
    runs = KeptRuns(model.session, device="cpu", graphs=graphs)
    feeds = {"image": np.zeros((1, 1, 8, 9), np.float32)}
    too_small = {"labels": np.empty((1, 8, 8), np.uint8)}
    if graphs:
        with pytest.raises(DeviceUnavailable, match="Turn CUDA graphs off"):
            runs.keep(feeds, too_small)
        return
    runs.keep(feeds, too_small)
    with pytest.raises(Exception, match=r"(?i)shape"):
        runs.run(feeds, too_small, ort.RunOptions())


def test_the_words_of_a_refusal_are_onnxruntime_s_own() -> None:
    """It has no GPU to refuse here, so its library's texts are searched."""
    folder = Path(ort.__file__).parent / "capi"
    libraries = [path for path in folder.iterdir() if ".so" in path.name or path.suffix == ".pyd"]
    texts = b"".join(path.read_bytes() for path in libraries if "providers" not in path.name)
    assert GRAPHS_REFUSED.encode() in texts
    assert b"gpu_graph_id" in texts
