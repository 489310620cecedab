import subprocess
import sys

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from contract.__main__ import main
from contract.adopt import adopt
from contract.errors import ModelBroken, SpecInvalid
from contract.model import Model
from contract.repository import find_model

FIELDS = {
    "name": "foreign",
    "channels": 1,
    "classes": [
        {"name": "background", "colour": [0, 0, 0]},
        {"name": "bright", "colour": [255, 0, 0]},
    ],
    "whole_image_max_pixels": 100_000,
}


def write_foreign(path, *, flaw=None):
    """A model without a spec: bright is what exceeds 100, softly."""
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Sub", ["image", "limit"], ["over"]),
        node("Div", ["over", "softness"], ["logit"]),
        node("Sigmoid", ["logit"], ["bright"]),
        node("Sub", ["one", "bright"], ["dark"]),
        node("Concat", ["dark", "bright"], ["probabilities"], axis=1),
        node("Greater", ["bright", "half"], ["above"]),
        node("Squeeze", ["above", "axis"], ["flat"]),
        node("Cast", ["flat"], ["mask"], to=TensorProto.UINT8),
        node("Mul", ["mask", "label"], ["labels"]),
    ]
    if flaw == "logits":
        nodes[4] = node("Concat", ["zero_plane", "logit"], ["probabilities"], axis=1)
        nodes.insert(4, node("Mul", ["logit", "nought"], ["zero_plane"]))
    if flaw == "sum":
        nodes[4] = node("Concat", ["bright", "bright"], ["probabilities"], axis=1)
    if flaw == "size":
        nodes[0] = node("Sub", ["pooled", "limit"], ["over"])
        nodes.insert(
            0,
            node(
                "AveragePool",
                ["image"],
                ["pooled"],
                kernel_shape=[2, 2],
                strides=[2, 2],
                ceil_mode=1,
            ),
        )
    if flaw == "batch":
        nodes[0] = node("Sub", ["image", "mean"], ["over"])
        nodes.insert(0, node("ReduceMean", ["image"], ["mean"], keepdims=1))
    constants = {
        "limit": np.float32(100),
        "softness": np.float32(20),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "nought": np.float32(0),
        "axis": np.array([1]),
        "label": np.uint8(255 if flaw == "0/255" else 1),
    }
    graph = helper.make_graph(
        nodes,
        "foreign",
        [value("pixels" if flaw == "name" else "image", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [
            value("labels", TensorProto.UINT8, ["n", "oh", "ow"]),
            value("probabilities", TensorProto.FLOAT, ["n", 2, "oh", "ow"]),
        ],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()],
    )
    if flaw == "name":
        graph.node[0].input[0] = "pixels"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def test_an_adopted_model_serves_as_any_other(tmp_path, picture):
    file = write_foreign(tmp_path / "foreign.onnx")
    root = tmp_path / "models"
    path = adopt(file, FIELDS, to=root)
    assert path == find_model(root, "foreign", 1)
    model = Model.open(path, device="cpu")  # proves the golden sample
    assert model.spec.class_names == ("background", "bright")
    assert model.spec.normalising.mean == (0.0,)
    image = picture(1, 33, 47)
    assert np.array_equal(model.segment(image).labels, image[0] > 100)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


def test_adopting_again_makes_the_next_version_of_the_same_bytes(tmp_path):
    file = write_foreign(tmp_path / "foreign.onnx")
    first, second = (adopt(file, FIELDS, to=tmp_path / "models") for _ in range(2))
    assert (first.parent.name, second.parent.name) == ("1", "2")
    assert first.read_bytes() == second.read_bytes()


def test_weights_beside_the_file_are_taken_in(tmp_path):
    file = write_foreign(tmp_path / "foreign.onnx")
    onnx.save(
        onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    path = adopt(file, FIELDS, to=tmp_path / "models")
    (tmp_path / "weights.bin").unlink()
    Model.open(path, device="cpu")


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("name", "needs the inputs.*pixels"),
        ("logits", "are they logits"),
        ("sum", "do not sum to 1"),
        ("size", "does not have that size"),
        ("batch", "depend on the batch"),
        ("0/255", "not 0/255"),
    ],
)
def test_what_is_refused_and_leaves_nothing_behind(tmp_path, flaw, words):
    file = write_foreign(tmp_path / "foreign.onnx", flaw=flaw)
    with pytest.raises(ModelBroken, match=words):
        adopt(file, FIELDS, to=tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ModelBroken, match="there is no file"):
        adopt(tmp_path / "absent.onnx", FIELDS, to=tmp_path)
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ModelBroken, match="cannot be read as an ONNX model"):
        adopt(tmp_path / "text.onnx", FIELDS, to=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": "three"}, "channels"),
        ({"golden": {"seed": 1}}, "leave 'golden' out"),
        ({"version": 3}, "Extra inputs"),
        ({"name": "../escape"}, "pattern"),
    ],
)
def test_specs_that_do_not_validate(tmp_path, changes, words):
    file = write_foreign(tmp_path / "foreign.onnx")
    with pytest.raises(SpecInvalid, match=words):
        adopt(file, {**FIELDS, **changes}, to=tmp_path / "models")


def test_without_onnx_the_message_says_what_to_install(tmp_path, monkeypatch, capsys):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(FIELDS))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["adopt", "x.onnx", "--spec", str(tmp_path / "spec.yaml")]) == 1
    assert "pip install 'longskip[training]'" in capsys.readouterr().err


def test_the_command_adopts_and_shows(tmp_path, capsys):
    file = write_foreign(tmp_path / "foreign.onnx")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(FIELDS))
    adopt_it = ["adopt", str(file), "--spec", str(tmp_path / "spec.yaml")]
    assert main([*adopt_it, "--to", str(tmp_path / "models"), "--golden-size", "32", "40"]) == 0
    path = tmp_path / "models/foreign/1/model.onnx"
    assert capsys.readouterr().out.strip() == str(path)
    assert main(["show", str(path)]) == 0
    fields = yaml.safe_load(capsys.readouterr().out)
    assert fields["name"] == "foreign"
    assert fields["golden"]["shape_chw"] == [1, 32, 40]
    assert "labels_b64" not in fields["golden"]


def test_the_module_runs_and_reports_errors_in_one_line(tmp_path, repository_root):
    file = write_foreign(tmp_path / "foreign.onnx")
    shown = subprocess.run(
        [sys.executable, "-m", "contract", "show", str(file)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("SpecMissing: ")
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\x00"])
def test_a_spec_file_that_is_none(tmp_path, content, capsys):
    (tmp_path / "spec.yaml").write_text(content)
    assert main(["adopt", "x.onnx", "--spec", str(tmp_path / "spec.yaml")]) == 1
    assert capsys.readouterr().err.startswith("SpecInvalid: ")


@pytest.mark.parametrize("arguments", [["--help"], ["adopt", "--help"], ["show", "--help"]])
def test_help_has_examples(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert "examples:\n  python -m contract" in capsys.readouterr().out
