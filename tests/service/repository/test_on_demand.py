"""At most so many models in memory: who loads, who waits, who is let go."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.model import Model
from service.errors import DeadlineExceeded, ModelNotReady
from service.repository.policy import POLICY_FILE
from service.repository.repository import IdleModel, UnusedModel
from service.trace import Trace

Keeping = Callable[..., AbstractAsyncContextManager[Any]]
WITHIN_S = 20.0
SLOW_S = 0.05


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Any) -> Path:
    """Three models, to be copied; ``b`` in two versions."""
    root = tmp_path_factory.mktemp("three")
    for place, (name, version) in enumerate([("a", 1), ("b", 1), ("b", 2), ("c", 1)]):
        path = root / name / str(version) / "model.onnx"
        build_threshold_model(path, name=name, threshold=place / 10)
    return root


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.repository.exchange.SLOW_CLIENT_S", SLOW_S)


@pytest.fixture
def root(three: Path, tmp_path: Path) -> Path:
    """The folder, which a test may change."""
    return shutil.copytree(three, tmp_path / "models")


def loaded(kept: Any) -> list[tuple[str, int]]:
    return [one.key for one in kept.repository.ready]


async def ask(kept: Any, name: str, version: int | str | None = None) -> tuple[int, Any]:
    """As a request does it: find, claim, run."""
    served = await kept.keeper.find(name, version, Trace("t"))
    with kept.engine.scheduler(served).claim():
        await asyncio.sleep(0)  # its body comes in
        return served.version, await kept.segment(served)


def test_nothing_is_loaded_until_it_is_asked_for(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=2) as kept:
            assert loaded(kept) == []
            assert {type(one) for one in kept.repository.entries} == {IdleModel}
            assert [one.key for one in kept.repository.usable] == [
                *(("a", 1), ("b", 1), ("b", 2), ("c", 1))
            ]
            version, labels = await ask(kept, "b")
            assert version == 2
            model = Model.open(root / "b" / "2" / "model.onnx", device="cpu", threads=1)
            image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
            np.testing.assert_array_equal(labels, model.segment(image).labels)
            assert loaded(kept) == [("b", 2)]

    asyncio.run(run())


def test_the_one_asked_longest_ago_goes(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=2) as kept:
            await ask(kept, "a")
            await ask(kept, "b", 1)
            await ask(kept, "a")
            await ask(kept, "c")
            assert loaded(kept) == [("a", 1), ("c", 1)]
            await ask(kept, "b", 2)
            assert loaded(kept) == [("b", 2), ("c", 1)]
            assert len(kept.engine.schedulers) == 2

    asyncio.run(run())


def test_one_with_a_request_under_way_stays_before_others(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=2) as kept:
            served = await kept.keeper.find("a", None, Trace("t"))
            with kept.engine.scheduler(served).claim():
                await ask(kept, "b")
                await ask(kept, "c")
                assert loaded(kept) == [("a", 1), ("c", 1)]
                assert (await kept.segment(served)).shape == (8, 8)

    asyncio.run(run())


def test_where_all_are_busy_the_newcomer_waits_for_a_request_to_end(
    root: Path, keeping: Keeping
) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            served = await kept.keeper.find("a", None, Trace("t"))
            with kept.engine.scheduler(served).slot():
                newcomer = asyncio.create_task(ask(kept, "b"))
                await asyncio.sleep(3 * SLOW_S)
                assert not newcomer.done()
                # The old one answers whoever found it, and nobody finds it any more.
                assert isinstance(kept.repository.entry(("a", 1)), IdleModel)
                assert (await kept.segment(served)).shape == (8, 8)
                assert loaded(kept) == []
            assert (await newcomer)[0] == 2
            assert loaded(kept) == [("b", 2)]

    asyncio.run(run())


def test_a_client_that_sends_slowly_holds_nobody_up_and_gets_its_answer(
    root: Path, keeping: Keeping
) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            served = await kept.keeper.find("a", None, Trace("slow"))
            with kept.engine.scheduler(served).claim() as scheduler:
                assert (await ask(kept, "b"))[0] == 2
                assert (await ask(kept, "c"))[0] == 1
                assert (await kept.segment(served)).shape == (8, 8)
                assert scheduler in kept.engine.schedulers
            async with asyncio.timeout(WITHIN_S):
                while scheduler in kept.engine.schedulers:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_many_who_ask_for_all_at_once_are_all_answered(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            wanted = [("a", 1), ("b", 1), ("b", 2), ("c", 1)] * 6
            answers = await asyncio.gather(*(ask(kept, *one) for one in wanted))
            assert [version for version, _ in answers] == [version for _, version in wanted]
            for one, (_, labels) in zip(wanted, answers, strict=True):
                np.testing.assert_array_equal(labels, answers[wanted.index(one)][1])
            assert len(loaded(kept)) == 1

    asyncio.run(run())


def test_who_wait_for_one_wait_for_one_loading(
    root: Path, keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            with caplog.at_level("INFO", logger="longskip.repository"):
                await asyncio.gather(*(ask(kept, "a") for _ in range(8)))
            assert sum("a/1 ready" in line for line in caplog.messages) == 1

    asyncio.run(run())


def test_one_that_fails_its_proof_is_told_and_the_next_answers(
    root: Path, keeping: Keeping, build_threshold_model: Any
) -> None:
    async def run() -> None:
        broken = root / "b" / "3" / "model.onnx"
        build_threshold_model(broken, name="b", break_golden=True)
        (root / "c" / "1" / "model.onnx").write_bytes(b"torn")
        async with keeping(root, max_loaded=1) as kept:
            assert isinstance(kept.repository.entry(("c", 1)), UnusedModel)
            assert (await ask(kept, "b"))[0] == 2
            with pytest.raises(ModelNotReady, match="golden"):
                await ask(kept, "b", 3)
            build_threshold_model(broken, name="b", threshold=0.9)
            await kept.keeper.refresh()
            assert (await ask(kept, "b"))[0] == 3

    asyncio.run(run())


def test_latest_passes_over_one_that_fails_when_it_is_loaded(
    root: Path, keeping: Keeping, build_threshold_model: Any
) -> None:
    async def run() -> None:
        build_threshold_model(root / "b" / "3" / "model.onnx", name="b", break_golden=True)
        (root / POLICY_FILE).write_text("b: {versions: latest}")
        async with keeping(root, max_loaded=1) as kept:
            states = {one.version: one.state for one in kept.repository.versions("b")}
            assert states == {1: "unloaded", 2: "unloaded", 3: "idle"}
            assert (await ask(kept, "b"))[0] == 2
            states = {one.version: one.state for one in kept.repository.versions("b")}
            assert states == {1: "unloaded", 2: "ready", 3: "failed"}
            await kept.keeper.refresh()
            assert (await ask(kept, "b"))[0] == 2

    asyncio.run(run())


def test_one_that_is_gone_when_it_is_asked_for_is_told(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            shutil.rmtree(root / "a")
            with pytest.raises(ModelNotReady, match="a version 1"):
                await ask(kept, "a")

    asyncio.run(run())


def test_a_changed_file_of_a_loaded_and_of_an_idle_one(
    root: Path, keeping: Keeping, build_threshold_model: Any
) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1) as kept:
            served = await kept.keeper.find("a", None, Trace("t"))
            for name in ("a", "c"):
                build_threshold_model(root / name / "1" / "model.onnx", name=name, threshold=2.0)
            await kept.keeper.refresh()
            assert loaded(kept) == [("a", 1)]
            for name in ("a", "c"):
                now = await kept.keeper.find(name, None, Trace("t"))
                path = root / name / "1" / "model.onnx"
                assert now.model.sha256 == Model.open(path, prove=False).sha256
                assert now.model.sha256 != served.model.sha256

    asyncio.run(run())


def test_the_deadline_holds_while_it_waits_and_the_loading_goes_on(
    root: Path, keeping: Keeping
) -> None:
    async def run() -> None:
        async with keeping(root, max_loaded=1, deadline_s=0.05) as kept:
            served = kept.repository.find("a")
            async with asyncio.timeout(WITHIN_S):
                while isinstance(served, IdleModel):
                    try:
                        served = await kept.keeper.find("a", None, Trace("t"))
                    except DeadlineExceeded:
                        served = kept.repository.find("a")
            with (
                kept.engine.scheduler(served).claim(),
                pytest.raises(DeadlineExceeded, match="not loaded within"),
            ):
                await kept.keeper.find("b", None, Trace("late"))
            async with asyncio.timeout(WITHIN_S):
                while loaded(kept) != [("b", 2)]:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_policies_and_admins_hold_for_idle_ones(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        (root / POLICY_FILE).write_text("b: {versions: latest, aliases: {stable: 1}}")
        async with keeping(root, max_loaded=1) as kept:
            assert (await ask(kept, "b"))[0] == 1
            (root / POLICY_FILE).write_text("b: {versions: latest, aliases: {stable: 2}}")
            await kept.keeper.refresh()
            assert (await ask(kept, "b"))[0] == 2
            entry = kept.repository.entry(("b", 1))
            assert isinstance(entry, UnusedModel)
            assert entry.state == "unloaded"
            await kept.keeper.unload("b")
            assert loaded(kept) == []
            with pytest.raises(ModelNotReady):
                await ask(kept, "b")
            await kept.keeper.load("b")
            assert (await ask(kept, "b"))[0] == 2

    asyncio.run(run())
