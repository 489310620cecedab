import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.probe.command import ALONE, COMPARISONS, INSTRUMENTS, OPTIONS, PROBES
from training.probe.lesion_row import LesionRow
from training.probe.rows import read_rows


def test_every_probe_of_the_table_is_there() -> None:
    assert PROBES.keys() == INSTRUMENTS.keys()
    assert set(COMPARISONS) == set(INSTRUMENTS) - set(ALONE)
    for name in INSTRUMENTS:
        word = name.replace("-", "_")
        module = importlib.import_module(f"training.probe.{word}")
        assert callable(getattr(module, f"probe_{word}"))
        assert hasattr(module, f"compare_{word}") == (name in COMPARISONS)
    for probe, keyword in OPTIONS.values():
        module = importlib.import_module(f"training.probe.{probe}")
        assert keyword in inspect.signature(getattr(module, f"probe_{probe}")).parameters
        assert keyword in inspect.signature(getattr(module, f"compare_{probe}")).parameters


def test_help_lists_the_probes_and_does_without_torch() -> None:
    code = (
        "import sys; from training.probe.command import build_parser; "
        "print(build_parser().format_help()); assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in found.stdout for name in INSTRUMENTS)


def test_what_cannot_be_looked_at_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "boundary", str(tmp_path)]) == 1
    assert "checkpoints/best.ckpt" in capsys.readouterr().err
    assert main(["probe", "boundary", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not there; give a checkpoint" in capsys.readouterr().err
    for options, said in (
        (["boundary", "--limit", "0"], "--limit must be 1 or more"),
        (["boundary", "--grid", "11"], "--grid is an option of the probe landscape"),
        (["lesion", "--gains", "0.5,1"], "--gains takes numbers from 0 up to 1"),
        (["cost", "--side", "0"], "--side must be 1 px or more"),
        (["shift", "--seed", str(2**64)], "--seed must be 0 to 4294967295"),
        (["shift", "--seed=-1"], "--seed must be 0 to"),
        (["gradient-flow", "--against", str(tmp_path)], "looks at one net"),
    ):
        assert main(["probe", options[0], str(tmp_path), *options[1:]]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_looked_at_by_name(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", "boundary", str(run_folder), "--limit", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((run_folder / "probes/boundary/figures.json").read_text())
    assert figures["images"] == 1
    assert all(name in printed for name in figures["figures"])
    last = str(run_folder / "checkpoints/last.ckpt")
    out = tmp_path / "pair"
    options = ["--against", last, "--part", "train", "--limit", "2", "--device", "cpu"]
    gains = ["--gains", "0"]
    assert main(["probe", "lesion", str(run_folder), *options, *gains, f"--out={out}"]) == 0
    assert "too good for them" in capsys.readouterr().out
    rows = read_rows(out / "lesions.csv", LesionRow)
    assert {row.net for row in rows} == {"run", "run last"}
    assert {row.gain for row in rows} == {0.0, 1.0}
