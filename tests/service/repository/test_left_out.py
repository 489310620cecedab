"""What lies in the models' folder and is not served is told."""

import logging
from pathlib import Path

import pytest

from contract.repository import MODEL_FILE
from service.repository.left_out import left_out
from service.repository.load import load_repository
from service.settings import Settings


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    """One good model; the rest is what people really leave in such a folder."""

    def put(*place: str) -> None:
        path = tmp_path.joinpath(*place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    put("good", "1", MODEL_FILE)
    put("good", "v2", MODEL_FILE)
    put("good", "03", MODEL_FILE)
    put("good", "4", "model.int8.onnx")
    put("good", "card.md")
    put("My Model", "1", MODEL_FILE)
    put("flat", MODEL_FILE)
    put("loose.onnx")
    put("README.md")
    put("models.yml")
    put(".cache", "1", MODEL_FILE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "moved").symlink_to(tmp_path / "nowhere")
    (tmp_path / "torn" / "1").mkdir(parents=True)
    (tmp_path / "torn" / "1" / MODEL_FILE).symlink_to(tmp_path / "nowhere.onnx")
    return tmp_path


def test_each_is_told_with_its_reason(untidy: Path) -> None:
    reasons = {str(path): reason for path, reason in left_out(untidy)}
    expected = {
        "My Model": "must match",
        "empty": "nothing in it",
        "flat": f"{MODEL_FILE!r}: it is no folder",
        "good/03": "called 1, 2, 3",
        "good/4": f"no {MODEL_FILE}",
        "good/v2": "called 1, 2, 3",
        "loose.onnx": "it is no folder",
        "models.yml": "called models.yaml",
        "moved": "link to nothing",
        "torn": "link to nothing",
    }
    assert sorted(reasons) == sorted(expected)
    for path, part in expected.items():
        assert part in reasons[path], path


def test_they_are_logged_in_one_line_each_whatever_their_names_hold(
    untidy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (untidy / "a\nb").mkdir()
    with caplog.at_level(logging.WARNING, logger="longskip.repository"):
        repository = load_repository(Settings(models=untidy, device="cpu", threads=1))
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) == 11
    assert not any("\n" in line for line in told)
    assert repository.names == ("good",)


def test_the_shipped_models_leave_nothing_out(repository_root: Path) -> None:
    assert list(left_out(repository_root / "models")) == []
