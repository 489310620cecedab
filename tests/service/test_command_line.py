"""Settings from the environment and the command line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.command_line import parse_settings
from service.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LONGSKIP_{name.upper()}", raising=False)


def test_defaults_are_those_of_the_architecture() -> None:
    settings = parse_settings([])
    assert settings.models == Path("models")
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.device, settings.precision) == ("auto", "auto")


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSKIP_PORT", "9001")
    monkeypatch.setenv("LONGSKIP_QUEUE_SIZE", "7")
    settings = parse_settings(["--port", "9002", "--models", "/srv/models"])
    assert (settings.port, settings.queue_size) == (9002, 7)
    assert settings.models == Path("/srv/models")


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSKIP_CORS_ORIGINS", "https://a.example, https://b.example,")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")
    monkeypatch.setenv("LONGSKIP_CORS_ORIGINS", "")
    assert Settings().cors_origins == ()


@pytest.mark.parametrize(
    ("given", "kept"), [("", ""), ("/", ""), ("longskip", "/longskip"), ("/a/b/", "/a/b")]
)
def test_the_root_path_has_one_spelling(given: str, kept: str) -> None:
    assert Settings(root_path=given).root_path == kept


def test_every_default_and_example_is_valid() -> None:
    for name, field in Settings.model_fields.items():
        assert field.examples, f"{name} has no example"
    with pytest.raises(ValidationError):
        Settings(max_pixels=2_000_000, max_decoded_megapixels=1.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "x"], "LONGSKIP_PORT"),
        (["--device", "gpu"], "LONGSKIP_DEVICE"),
        (["--max-pixels", "90000000"], "max_decoded_megapixels"),
        (["--nonsense", "1"], "--nonsense"),
    ],
)
def test_a_wrong_setting_is_named_and_status_2(
    arguments: Sequence[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        value = "[VALUE]" if field.annotation is bool else "VALUE"
        assert f"--{name.replace('_', '-')} {value}" in text
        shown = "none" if field.default in (None, (), "") else field.default
        assert f"[LONGSKIP_{name.upper()}, default {shown}, e.g. " in text
    assert "examples:" in text
    assert "Research use only" in text
