import pytest

from contract.errors import ModelNotFound
from contract.repository import find_model, latest, list_models, list_versions, next_version


@pytest.fixture
def root(tmp_path):
    for place in ("nuclei/1", "nuclei/2", "nuclei/10", "em/3", "em/4"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.onnx").write_bytes(b"x")
    (tmp_path / "em/4/model.onnx").unlink()  # an export that has not finished
    for other in ("nuclei/latest", "nuclei/01", "nuclei/0", "Upper/1", ".hidden/1", "empty"):
        (tmp_path / other).mkdir(parents=True)
        (tmp_path / other / "model.onnx").write_bytes(b"x")
    (tmp_path / "README.md").write_text("models")
    return tmp_path


def test_versions_are_numbers_and_not_names(root):
    assert list_versions(root, "nuclei") == [1, 2, 10]
    assert latest(root, "nuclei") == 10
    assert list_models(root) == ["em", "nuclei"]


def test_a_version_without_a_file_is_none(root):
    assert list_versions(root, "em") == [3]
    assert next_version(root, "em") == 5


def test_find(root):
    assert find_model(root, "nuclei", None) == root / "nuclei/10/model.onnx"
    assert find_model(root, "nuclei", 2) == root / "nuclei/2/model.onnx"


def test_what_is_not_there(root):
    with pytest.raises(ModelNotFound, match=r"no model 'ct' in .*: em, nuclei$"):
        find_model(root, "ct", None)
    with pytest.raises(ModelNotFound, match=r"no version 3; there are: 1, 2, 10$"):
        find_model(root, "nuclei", 3)
    with pytest.raises(ModelNotFound, match="there are: none"):
        latest(root / "absent", "nuclei")
    assert list_models(root / "absent") == []


def test_the_next_version(root):
    assert next_version(root, "nuclei") == 11
    assert next_version(root, "ct") == 1
    assert next_version(root / "absent", "ct") == 1


@pytest.mark.parametrize(
    "name", ["..", "../nuclei", "nuclei/../nuclei", "/", "", "Upper", ".hidden"]
)
def test_only_plain_names_reach_the_file_system(root, name):
    assert list_versions(root, name) == []
    with pytest.raises(ModelNotFound):
        find_model(root, name, 1)
    with pytest.raises(ModelNotFound, match="cannot be a model's name"):
        next_version(root, name)
