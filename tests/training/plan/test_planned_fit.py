"""`plan` and `fit` on a real folder: what is given stands, the rest is planned, time is kept."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from training.__main__ import main
from training.fit.checkpoint import read_whole
from training.plan.settings import PACE_VARIABLE

pytestmark = pytest.mark.slow

SMALL = ("--net.widths=[4,6]", "--data.patch=[32,32]", "--data.workers=0")


def test_plan_writes_a_config_that_fit_reads(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.yaml"
    asked = [f"--data.root={phantoms}", "--data.patch=[64,64]", "--seed=3"]
    assert main(["plan", *asked]) == 0
    printed = capsys.readouterr().out
    assert main(["plan", *asked, f"--out={out}"]) == 0
    capsys.readouterr()
    assert out.read_text() == printed  # the same every time
    planned = yaml.safe_load(printed)
    assert planned["data"]["patch"] == [64, 64]
    assert planned["data"]["seed"] == planned["seed"] == 3
    assert len(planned["net"]["widths"]) == 4  # 64 / 2^3 = 8 px are left
    assert re.search(r"# .*halvings leave 8 px.*\n  widths: ", printed)
    assert main(["plan", *asked, f"--out={out}"]) == 1  # nothing is written over
    # A config is as good as the command line: what it says stands, and the rest follows.
    assert main(["plan", f"--config={out}", "--net.widths=[8,16]"]) == 0
    again = yaml.safe_load(capsys.readouterr().out)
    assert again["net"]["widths"] == [8, 16]
    assert again["data"] == planned["data"]


def test_a_time_limit_plans_the_epochs_and_the_schedule_ends(
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PACE_VARIABLE, "")
    monkeypatch.delenv(PACE_VARIABLE)  # what this training sets is taken back
    run, started_s = tmp_path / "run", time.monotonic()
    command = ["fit", f"--data.root={phantoms}", f"--out={run}", *SMALL, "--max-minutes=2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert time.monotonic() - started_s < 60 * 2 + 60  # imports and a busy machine
    assert "stopped early" not in said
    text = (run / "config.yaml").read_text()
    assert re.search(r"# \d+ steps of [\d.]+ s \(measured\).*\n  max_epochs: ", text)
    settings = yaml.safe_load(text)
    assert settings["net"]["widths"] == [4, 6]
    assert settings["data"]["patch"] == [32, 32]
    assert "# " not in text[: text.index("patch:")].splitlines()[-1]  # given, so without a reason
    # Of the checkpoint: on a busy machine few steps are left, and not each is logged.
    (schedule,) = read_whole(run / "checkpoints" / "last.ckpt")["lr_schedulers"]
    assert schedule["_last_lr"][0] < 0.05 * settings["optimiser"]["lr"]


def test_help_needs_no_lightning() -> None:
    found = "print('FOUND', 'torch' in sys.modules, 'lightning' in sys.modules)"
    probe = (
        "import sys; from training.__main__ import main; "
        f"main(['fit', '--help']); {found}; main(['plan', '--help']); {found}; "
        # The probe can find them: the list of Trainer's options does need Lightning.
        f"main(['fit', '--help', 'trainer']); {found}"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    fit, plan, trainer, rest = re.split(r"FOUND (.*)\n", done.stdout)[::2]
    assert re.findall(r"FOUND (.*)", done.stdout) == ["False False", "False False", "True True"]
    assert "--data.root" in fit
    assert "--data.root" in plan
    assert "--trainer.max_epochs" in trainer
    assert rest == ""
