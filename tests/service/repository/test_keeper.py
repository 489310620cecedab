"""The folder changes while the service answers: what is loaded, kept, dropped, and when."""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import ModelNotFound
from service.errors import ModelNotReady
from service.repository.repository import UnusedModel
from service.trace import Trace

Build = Callable[..., Path]
Keeping = Callable[..., AbstractAsyncContextManager[Any]]
WITHIN_S = 20.0


@pytest.fixture
def root(tmp_path: Path, build_threshold_model: Build) -> Path:
    """One model in one version."""
    build_threshold_model(tmp_path / "m" / "1" / "model.onnx", name="m")
    return tmp_path


def put_in_place(source: Path, target: Path) -> None:
    """As an export or a careful copy does it: whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".tmp")
    shutil.copy(source, beside)
    os.replace(beside, target)


def test_nothing_changes_where_the_folder_does_not(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root) as kept:
            before = kept.repository.entries
            await kept.keeper.refresh()
            assert kept.repository.entries == before

    asyncio.run(run())


def test_a_new_version_answers_next(
    root: Path, keeping: Keeping, build_threshold_model: Build
) -> None:
    async def run() -> None:
        async with keeping(root) as kept:
            build_threshold_model(root / "m" / "2" / "model.onnx", name="m", threshold=0.1)
            build_threshold_model(root / "other" / "1" / "model.onnx", name="other")
            await kept.keeper.refresh()
            assert kept.repository.find("m").version == 2
            assert kept.repository.find("m", 1).version == 1
            assert (await kept.segment(kept.repository.find("other"))).shape == (8, 8)

    asyncio.run(run())


def test_a_changed_file_takes_over_and_the_old_one_ends_its_work(
    root: Path,
    keeping: Keeping,
    tmp_path_factory: pytest.TempPathFactory,
    build_threshold_model: Build,
) -> None:
    aside = tmp_path_factory.mktemp("aside") / "model.onnx"
    build_threshold_model(aside, name="m", threshold=-0.4)

    async def run() -> None:
        async with keeping(root) as kept:
            old = kept.repository.find("m")
            scheduler = kept.engine.scheduler(old)
            labels_of_old = await kept.segment(old)
            with scheduler.slot():  # a request that found the old one and reads its body yet
                put_in_place(aside, root / "m" / "1" / "model.onnx")
                await kept.keeper.refresh()
                new = kept.repository.find("m")
                assert new.model.sha256 != old.model.sha256
                labels_of_new = await kept.segment(new)
                with kept.engine.budget.lease() as lease:
                    late = await scheduler.segment(
                        np.arange(64, dtype=np.float32).reshape(1, 8, 8),
                        probabilities=False,
                        lease=lease,
                        trace=Trace("late"),
                    )
            np.testing.assert_array_equal(late.labels, labels_of_old)
            assert (labels_of_new != labels_of_old).any()
            await asyncio.sleep(0.1)
            with pytest.raises(KeyError):
                kept.engine.scheduler(old)

    asyncio.run(run())


@pytest.mark.parametrize("how", ["torn", "wrong answer", "another contract"])
def test_a_broken_file_disturbs_nobody_and_is_told(
    root: Path,
    keeping: Keeping,
    tmp_path_factory: pytest.TempPathFactory,
    build_threshold_model: Build,
    how: str,
) -> None:
    target = root / "m" / "1" / "model.onnx"
    good = target.read_bytes()
    aside = tmp_path_factory.mktemp("aside") / "model.onnx"
    if how == "torn":
        aside.write_bytes(good[: len(good) // 2])
    elif how == "wrong answer":
        build_threshold_model(aside, name="m", break_golden=True)
    else:
        build_threshold_model(aside, name="m", break_interface="fixed size")

    async def run() -> None:
        async with keeping(root) as kept:
            before = kept.sha256()
            put_in_place(aside, target)
            await kept.keeper.refresh()
            served = kept.repository.find("m")
            assert served.model.sha256 == before
            assert "the older file answers" in served.complaint
            assert str(root) not in served.complaint
            assert (await kept.segment(served)).shape == (8, 8)
            target.write_bytes(good)
            await kept.keeper.refresh()
            assert kept.repository.find("m").complaint == ""
            assert kept.sha256() == before

    asyncio.run(run())


def test_a_file_that_was_broken_at_the_start_is_mended(root: Path, keeping: Keeping) -> None:
    target = root / "m" / "1" / "model.onnx"
    good = target.read_bytes()
    target.write_bytes(b"torn")

    async def run() -> None:
        async with keeping(root) as kept:
            with pytest.raises(ModelNotReady):
                kept.repository.find("m")
            target.write_bytes(good)
            await kept.keeper.refresh()
            assert (await kept.segment(kept.repository.find("m"))).shape == (8, 8)

    asyncio.run(run())


def test_what_is_gone_from_the_folder_is_gone(
    root: Path, keeping: Keeping, build_threshold_model: Build
) -> None:
    build_threshold_model(root / "m" / "2" / "model.onnx", name="m", threshold=0.1)

    async def run() -> None:
        async with keeping(root) as kept:
            shutil.rmtree(root / "m" / "2")
            await kept.keeper.refresh()
            assert kept.repository.find("m").version == 1
            shutil.rmtree(root / "m")
            await kept.keeper.refresh()
            assert kept.repository.names == ()

    asyncio.run(run())


def test_unloaded_stays_unloaded_until_it_is_loaded(
    root: Path, keeping: Keeping, build_threshold_model: Build
) -> None:
    async def run() -> None:
        async with keeping(root) as kept:
            await kept.keeper.unload("m")
            with pytest.raises(ModelNotReady, match="unloaded"):
                kept.repository.find("m")
            build_threshold_model(root / "m" / "1" / "model.onnx", name="m", threshold=0.1)
            await kept.keeper.refresh()
            entry = kept.repository.entry(("m", 1))
            assert isinstance(entry, UnusedModel)
            assert entry.state == "unloaded"
            await kept.keeper.load("m")
            assert kept.repository.find("m").version == 1
            with pytest.raises(ModelNotFound):
                await kept.keeper.load("nowhere")
            with pytest.raises(ModelNotFound):
                await kept.keeper.load("../m")
            with pytest.raises(ModelNotFound):
                await kept.keeper.unload("nowhere")
            (root / "m" / "1" / "model.onnx").write_bytes(b"torn")
            await kept.keeper.unload("m")
            with pytest.raises(ModelNotReady, match="m version 1 cannot be used"):
                await kept.keeper.load("m")

    asyncio.run(run())


def test_the_folder_is_watched(root: Path, keeping: Keeping, build_threshold_model: Build) -> None:
    async def run() -> None:
        async with keeping(root, reload=True) as kept:
            await asyncio.sleep(0.3)
            build_threshold_model(root / "m" / "2" / "model.onnx", name="m", threshold=0.1)
            async with asyncio.timeout(WITHIN_S):
                while kept.repository.find("m").version == 1:
                    await asyncio.sleep(0.05)

    asyncio.run(run())
