"""``models.yaml`` changes while the service answers: what takes force, and what does not."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import ModelNotFound
from service.errors import ModelNotReady, PoliciesInvalid
from service.repository.load import load_repository
from service.repository.policy import POLICY_FILE, read_policies
from service.repository.repository import ServedModel
from service.settings import Settings

Keeping = Callable[..., AbstractAsyncContextManager[Any]]
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Any) -> Path:
    """A model in four versions, the last of them broken, to be copied."""
    root = tmp_path_factory.mktemp("four")
    for version in (1, 2, 3):
        path = root / "m" / str(version) / "model.onnx"
        build_threshold_model(path, name="m", threshold=version / 10)
    build_threshold_model(root / "m" / "4" / "model.onnx", name="m", break_golden=True)
    return root


@pytest.fixture
def root(four: Path, tmp_path: Path) -> Path:
    """The folder, which a test may change."""
    return shutil.copytree(four, tmp_path / "models")


def say(root: Path, text: str) -> None:
    (root / POLICY_FILE).write_text(text)


def loaded(kept: Any) -> list[int]:
    return [one.version for one in kept.repository.ready]


@pytest.mark.parametrize(
    ("text", "versions", "answers"),
    [
        ("", [1, 2, 3], 3),
        ("m: {versions: latest}", [3], 3),
        ("m: {versions: {latest: 2}}", [2, 3], 3),
        ("m: {versions: [1, 4]}", [1], 1),
        ("m: {versions: [1], aliases: {next: 2}}", [1, 2], 1),
        ("m: {versions: latest, aliases: {stable: 2}}", [2, 3], 2),
    ],
)
def test_the_start_and_a_change_give_the_same(
    root: Path, keeping: Keeping, text: str, versions: list[int], answers: int
) -> None:
    async def run() -> None:
        async with keeping(root) as kept:
            say(root, text)
            await kept.keeper.refresh()
            assert loaded(kept) == versions
            assert kept.repository.find("m").version == answers
            followed = [(one.key, type(one)) for one in kept.repository.entries]
        async with keeping(root) as kept:
            assert loaded(kept) == versions
            assert kept.repository.find("m").version == answers
            assert [(one.key, type(one)) for one in kept.repository.entries] == followed

    asyncio.run(run())


def test_what_the_policy_leaves_out_is_listed_and_comes_back(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        say(root, "m: {versions: [3]}")
        async with keeping(root) as kept:
            with pytest.raises(ModelNotReady, match=r"models\.yaml leaves it out"):
                kept.repository.find("m", 1)
            (root / POLICY_FILE).unlink()
            await kept.keeper.refresh()
            assert loaded(kept) == [1, 2, 3]

    asyncio.run(run())


def test_aliases_are_found_and_moved(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        say(root, "m: {aliases: {stable: 1, next: 2}}")
        async with keeping(root) as kept:
            assert kept.repository.find("m").version == 1
            assert kept.repository.find("m", "next").version == 2
            assert kept.repository.find("m", 3).version == 3
            with pytest.raises(ModelNotFound, match="stable, next"):
                kept.repository.find("m", "canary")
            say(root, "m: {aliases: {stable: 2}}")
            await kept.keeper.refresh()
            assert kept.repository.find("m").version == 2
            with pytest.raises(ModelNotFound):
                kept.repository.find("m", "next")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("m: {aliases: {stable: 2}", "no YAML"),
        ("m: {aliases: {stable: 2, next: 9}}", "no version 9 of m"),
        ("m: {aliases: {stable: 2, next: 4}}", "m next is version 4, which cannot be used: "),
        ("m: {aliases: {stable: 2}}\nmm: {}", "no model mm"),
        ("m: {versions: [2, 8], aliases: {stable: 2}}", "no version 8 of m"),
    ],
)
def test_a_wrong_file_leaves_the_former_one_in_force(
    root: Path, keeping: Keeping, wrong: str, told: str
) -> None:
    async def run() -> None:
        say(root, "m: {versions: [1], aliases: {stable: 1}}")
        async with keeping(root) as kept:
            say(root, wrong)
            await kept.keeper.refresh()
            assert told in kept.repository.complaint
            assert "the former one is in force" in kept.repository.complaint
            assert kept.repository.find("m").version == 1
            assert loaded(kept) == [1]
            assert str(root) not in kept.repository.complaint
            say(root, "m: {versions: [2], aliases: {stable: 2}}")
            await kept.keeper.refresh()
            assert kept.repository.complaint == ""
            assert kept.repository.find("m").version == 2
            assert loaded(kept) == [2]

    asyncio.run(run())


def test_at_the_start_there_is_no_former_file_to_go_on_with(root: Path) -> None:
    say(root, "m: {versions: newest}")
    with pytest.raises(PoliciesInvalid):
        load_repository(Settings(models=root, device="cpu", threads=1))


def test_where_stable_cannot_be_used_no_other_version_answers_for_it(
    root: Path, keeping: Keeping
) -> None:
    async def run() -> None:
        say(root, "m: {aliases: {stable: 4}}")
        async with keeping(root) as kept:
            assert "m stable is version 4" in kept.repository.complaint
            with pytest.raises(ModelNotReady, match="m stable is version 4"):
                kept.repository.find("m")
            assert kept.repository.default("m") is None
            assert kept.repository.find("m", 3).version == 3
            shutil.rmtree(root / "m" / "4")
            await kept.keeper.refresh()
            with pytest.raises(ModelNotReady, match="not in the folder"):
                kept.repository.find("m")
            shutil.copytree(root / "m" / "3", root / "m" / "4")
            await kept.keeper.refresh()
            assert kept.repository.find("m").version == 4
            assert kept.repository.complaint == ""

    asyncio.run(run())


def test_a_canary_that_cannot_be_used_costs_no_request(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        say(root, "m: {aliases: {stable: 1, canary: {version: 2, weight: 0.5}}}")
        async with keeping(root) as kept:
            ids = [str(number) for number in range(40)]
            drawn = [kept.repository.find("m", request_id=one).version for one in ids]
            assert set(drawn) == {1, 2}
            assert kept.repository.find("m").version == 1  # no request for an answer
            shutil.rmtree(root / "m" / "2")
            await kept.keeper.refresh()
            assert {kept.repository.find("m", request_id=one).version for one in ids} == {1}

    asyncio.run(run())


def test_latest_takes_over_when_it_has_proved_itself_and_the_former_is_let_go(
    root: Path, keeping: Keeping
) -> None:
    async def run() -> None:
        say(root, "m: {versions: latest}")
        async with keeping(root) as kept:
            before = kept.repository.find("m")
            shutil.copytree(root / "m" / "4", root / "m" / "5")  # broken: nothing changes
            await kept.keeper.refresh()
            assert kept.repository.find("m") is before
            shutil.copytree(root / "m" / "1", root / "m" / "6")
            await kept.keeper.refresh()
            assert loaded(kept) == [6]
            await asyncio.sleep(0.1)
            with pytest.raises(KeyError):
                kept.engine.scheduler(before)

    asyncio.run(run())


def test_an_admin_s_word_is_about_one_model(
    root: Path, keeping: Keeping, build_threshold_model: Any
) -> None:
    async def run() -> None:
        build_threshold_model(root / "other" / "1" / "model.onnx", name="other")
        async with keeping(root) as kept:
            say(root, "m: {versions: latest}\nother: {aliases: {stable: 1}}")
            await kept.keeper.load("m")
            assert [one.key for one in kept.repository.ready] == [("m", 3), ("other", 1)]
            assert kept.repository.policy("other").aliases == {}
            await kept.keeper.unload("m")
            shutil.copytree(root / "m" / "3", root / "m" / "9")
            await kept.keeper.refresh()
            assert [one.key for one in kept.repository.ready] == [("other", 1)]
            assert kept.repository.policy("other").stable == 1
            with pytest.raises(ModelNotReady, match="unloaded"):
                kept.repository.find("m", 9)
            await kept.keeper.load("m")
            assert isinstance(kept.repository.find("m", 9), ServedModel)

    asyncio.run(run())


def test_the_file_is_watched(root: Path, keeping: Keeping) -> None:
    async def run() -> None:
        async with keeping(root, reload=True) as kept:
            await asyncio.sleep(0.3)
            say(root, "m: {aliases: {stable: 1}}")
            async with asyncio.timeout(WITHIN_S):
                while kept.repository.find("m").version != 1:
                    await asyncio.sleep(0.05)

    asyncio.run(run())


FOLDERS = st.dictionaries(st.integers(1, 4), st.sampled_from(["good", "torn"]), min_size=1)
POLICIES = st.fixed_dictionaries(
    {
        "versions": st.sampled_from(["all", "latest"])
        | st.builds(lambda n: {"latest": n}, st.integers(1, 4))
        | st.lists(st.integers(1, 4), min_size=1),
        "aliases": st.dictionaries(st.sampled_from(["stable", "next"]), st.integers(1, 4)),
    }
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(FOLDERS, POLICIES), min_size=2, max_size=4))
def test_whatever_came_before_what_is_in_force_is_as_after_a_start(
    four: Path, tmp_path_factory: Any, keeping: Keeping, steps: list[tuple[Any, Any]]
) -> None:
    root = tmp_path_factory.mktemp("folder")
    good = (four / "m" / "1" / "model.onnx").read_bytes()

    def put(folder: Any, policy: Any) -> None:
        shutil.rmtree(root / "m", ignore_errors=True)
        for version, kind in folder.items():
            (root / "m" / str(version)).mkdir(parents=True)
            content = good if kind == "good" else good[:100]
            (root / "m" / str(version) / "model.onnx").write_bytes(content)
        say(root, yaml.safe_dump({"m": policy}))

    def seen(repository: Any) -> Any:
        states = [(one.key, one.state) for one in repository.entries]
        default = repository.default("m")
        return states, default.version if default else None

    async def run() -> None:
        put(*steps[0])
        async with keeping(root, max_loaded=1) as kept:  # read, not opened: it is quick
            for folder, policy in steps[1:]:
                before = kept.repository.policies
                put(folder, policy)
                await kept.keeper.refresh()
                if kept.repository.policies == read_policies(root):
                    fresh = load_repository(kept.settings)
                    assert seen(kept.repository) == seen(fresh)
                else:
                    assert kept.repository.policies == before
                    assert "the former one is in force" in kept.repository.complaint

    asyncio.run(run())
