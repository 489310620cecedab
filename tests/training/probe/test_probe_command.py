import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.probe.command import COMPARISONS, INSTRUMENTS, PROBES


def test_every_probe_of_the_table_is_there() -> None:
    import importlib

    assert PROBES.keys() == COMPARISONS.keys() == INSTRUMENTS.keys()
    for name in INSTRUMENTS:
        module = importlib.import_module(f"training.probe.{name}")
        assert callable(getattr(module, f"probe_{name}"))
        assert callable(getattr(module, f"compare_{name}"))


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
    assert main(["probe", "boundary", str(tmp_path), "--limit", "0"]) == 1
    assert "--limit" in capsys.readouterr().err


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
    assert main(["probe", "boundary", str(run_folder), *options, f"--out={out}"]) == 0
    assert "too good for them" in capsys.readouterr().out
    assert (out / "differences.csv").is_file()
