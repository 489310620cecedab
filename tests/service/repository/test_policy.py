"""``models.yaml``: what it may say, what is told of a wrong one, and who falls to a weight."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PoliciesInvalid
from service.repository.policy import POLICY_FILE, Alias, Latest, Policy, read_policies

CANARY = "m: {aliases: {stable: 1, canary: {version: 2, weight: %s}}}"
THERE = (1, 2, 3, 5)


def written(root: Path, text: str) -> Path:
    (root / POLICY_FILE).write_text(text)
    return root


@pytest.mark.parametrize(
    ("spelled", "versions"),
    [
        ("all", "all"),
        ("latest", Latest(latest=1)),
        ("{latest: 2}", Latest(latest=2)),
        ("[4, 3, 4]", (3, 4)),
    ],
)
def test_versions_in_all_spellings(tmp_path: Path, spelled: str, versions: object) -> None:
    assert read_policies(written(tmp_path, f"m: {{versions: {spelled}}}"))["m"].versions == versions


def test_aliases_long_and_short(tmp_path: Path) -> None:
    policy = read_policies(written(tmp_path, CANARY % 0.05))["m"]
    assert policy.aliases == {"stable": Alias(version=1), "canary": Alias(version=2, weight=0.05)}
    assert policy.stable == 1
    assert policy.versions == "all"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "m:\n"])
def test_nothing_said_is_the_default(tmp_path: Path, text: str) -> None:
    policies = read_policies(written(tmp_path, text))
    assert policies.get("m", Policy()) == Policy()
    assert Policy().wanted(THERE, ()) == set(THERE)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_policies(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("m: {versions: newest}", "m.versions"),
        ("m: {versions: []}", "m.versions"),
        ("m: {versions: [0]}", "m.versions"),
        ("m: {versions: [true]}", "m.versions"),
        ("m: {versions: {latest: 0}}", "m.versions"),
        ("m: {version: latest}", "m.version"),
        ("m: {aliases: [stable]}", "m.aliases"),
        ("m: {aliases: {3: 3}}", "m.aliases"),
        ("m: {aliases: {Stable: 3}}", "m.aliases"),
        ("m: {aliases: {stable: v3}}", "m.aliases.stable"),
        ("m: {aliases: {stable: {version: 3, share: 1}}}", "m.aliases.stable.share"),
        ("m: {aliases: {canary: {version: 3, weight: 0.1}}}", "name stable"),
        ("m: {aliases: {stable: {version: 3, weight: 0.1}}}", "name stable"),
        (CANARY % 1.5, "weight"),
        (CANARY % ".nan", "weight"),
        ("m: {aliases: {stable: 1, a: {version: 2, weight: 0.6}, b: {version: 3, weight: 0.6}}}",
         "1.2"),
        ("m: {}\nother: {}\nm: {}\n", "line 3: 'm' stands here twice"),
        ("m: {aliases: {stable: 1,\n", "no YAML at line"),
        ("- m\n", "it: "),
        ("m: 3\n", "m: "),
        ("? [m]\n: {}\n", "models.yaml"),
        ("m: !!python/object/apply:os.getcwd []\n", "models.yaml is no YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PoliciesInvalid) as refused:
        read_policies(written(tmp_path, text))
    assert told in str(refused.value)
    assert POLICY_FILE in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PoliciesInvalid, match="UnicodeDecodeError"):
        read_policies(tmp_path)


@pytest.mark.parametrize(
    ("versions", "failed", "wanted"),
    [
        ("all", (5,), {1, 2, 3, 5}),
        (Latest(latest=1), (), {5}),
        (Latest(latest=1), (5,), {3}),
        (Latest(latest=2), (5,), {2, 3}),
        (Latest(latest=9), (), {1, 2, 3, 5}),
        ([2, 4], (), {2}),
    ],
)
def test_which_versions_are_wanted(versions: object, failed: object, wanted: set[int]) -> None:
    said = {"latest": versions.latest} if isinstance(versions, Latest) else versions
    policy = Policy.model_validate({"versions": said})
    assert policy.wanted(THERE, failed) == wanted  # type: ignore[arg-type]
    named = Policy.model_validate({"versions": said, "aliases": {"stable": 1, "next": 7}})
    assert named.wanted(THERE, failed) == wanted | {1}  # type: ignore[arg-type]


@given(weight=st.floats(0, 1), more=st.floats(0, 1), request_id=st.text())
def test_the_same_request_falls_to_the_same_side_and_more_weight_takes_nobody_away(
    weight: float, more: float, request_id: str
) -> None:
    def draw(share: float) -> int | None:
        aliases = {"stable": {"version": 1}, "canary": {"version": 2, "weight": share}}
        return Policy.model_validate({"aliases": aliases}).draw("m", request_id)

    assert draw(weight) == draw(weight)
    if draw(weight) == 2:
        assert draw(max(weight, more)) == 2


def test_weights_take_their_shares() -> None:
    a, b = {"version": 2, "weight": 0.1}, {"version": 3, "weight": 0.25}
    policy = Policy.model_validate({"aliases": {"stable": 1, "a": a, "b": b}})
    drawn = [policy.draw("m", f"request-{n}") for n in range(20_000)]
    # The standard error of a share is below 0.0031 here.
    assert drawn.count(2) / len(drawn) == pytest.approx(0.1, abs=0.015)
    assert drawn.count(3) / len(drawn) == pytest.approx(0.25, abs=0.015)
    other = [policy.draw("other", f"request-{n}") for n in range(20_000)]
    assert other != drawn  # who falls to one model's canary does not fall to all models'


def test_all_or_nothing() -> None:
    for weight, version in ((0.0, None), (1.0, 2)):
        aliases = {"stable": 1, "canary": {"version": 2, "weight": weight}}
        policy = Policy.model_validate({"aliases": aliases})
        assert {policy.draw("m", str(n)) for n in range(500)} == {version}
