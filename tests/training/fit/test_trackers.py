"""Lightning's own loggers by configuration, beside the run's own files."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger

from training.__main__ import main
from training.fit.module import SegmentationModule
from training.fit.run_directory import RunDirectory
from training.fit.trackers import (
    go_on_with_trackers,
    log_settings,
    remember_trackers,
    with_trackers,
)

CONFIG = """\
data: {root: /home/ann/scans, batch_size: 4}
net: {widths: [6, 10]}
trainer:
  max_epochs: 2
  logger: {class_path: MLFlowLogger, init_args: {tracking_uri: "http://ann:pw@host"}}
out: /home/ann/runs/1
seed: 0
"""


class Remembers(CSVLogger):
    """A real logger that also keeps what it was given."""

    def log_hyperparams(self, params: object = None) -> None:
        self.given = params


def test_loggers_that_are_asked_for_come_beside_the_runs_own(tmp_path: Path) -> None:
    own, asked = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert with_trackers([own], None) == [own]
    assert with_trackers([own], True) == [own]
    assert with_trackers([own], False) == []
    assert with_trackers([own], asked) == [own, asked]
    assert with_trackers([own], [asked, asked]) == [own, asked, asked]


def test_settings_are_sent_without_paths_and_passwords(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    tracker = Remembers(tmp_path)
    log_settings([tracker], RunDirectory(tmp_path))
    assert tracker.given == {
        "data.batch_size": 4,
        "net.widths": [6, 10],
        "trainer.max_epochs": 2,
        "seed": 0,
    }


def fit_with(phantoms: Path, small_fit: tuple[str, ...], out: Path, *options: str) -> None:
    """Run `fit` as a process: trackers start threads and processes of their own."""
    folder = out.parent
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(folder),
        "WANDB_CONFIG_DIR": str(folder / "wandb-config"),
        "WANDB_CACHE_DIR": str(folder / "wandb-cache"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [
        sys.executable, "-m", "training", "fit", f"--data.root={phantoms}", f"--out={out}",
        *small_fit, "--trainer.max_epochs=1", *options,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def logged(run: Path, name: str) -> list[float]:
    with (run / "logs" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
def test_mlflow_gets_settings_and_metrics_and_a_resumed_run_goes_on_in_the_same(
    phantoms: Path,
    small_fit: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    # MLflow 3 wants a data base or a server, but still has its file store for who asks.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    out, store = tmp_path / "run", tmp_path / "mlruns"
    options = (
        "--trainer.logger=MLFlowLogger", f"--trainer.logger.tracking_uri=file:{store}",
        "--trainer.logger.run_name=first", "--trainer.max_epochs=2", "--data.workers=0",
        "--trainer.log_every_n_steps=1",
    )  # fmt: skip
    begin = ["fit", f"--data.root={phantoms}", f"--out={out}", *small_fit, *options]
    step = SegmentationModule.training_step

    def asked_to_stop(self: SegmentationModule, batch: Any, index: int) -> Any:
        if self.global_step == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", asked_to_stop)
        with pytest.raises(SystemExit):
            main(begin)
    (kept,) = (found.parent for found in store.glob("*/*/params"))
    before = (kept / "metrics" / "train" / "loss_step").read_text().splitlines()
    assert main(["fit", f"--resume={out}"]) == 0
    assert [found.parent for found in store.glob("*/*/params")] == [kept]
    assert (kept / "params" / "data.batch_size").read_text() == "4"
    assert not (kept / "params" / "data.root").exists()
    losses = (kept / "metrics" / "train" / "loss_step").read_text().splitlines()
    assert losses[: len(before)] == before
    steps = [int(line.split()[2]) for line in losses]
    assert sorted(set(steps)) == list(range(len(logged(out, "train/loss_step"))))
    value = float((kept / "metrics" / "val" / "dice").read_text().splitlines()[-1].split()[1])
    assert value == pytest.approx(logged(out, "val/dice")[-1], abs=1e-6)


@pytest.mark.parametrize("several", [True, False])
def test_a_resumed_run_asks_for_the_runs_that_it_logged_to(tmp_path: Path, several: bool) -> None:
    run = RunDirectory(tmp_path)

    class WandbLogger(CSVLogger):
        version = "abc"

    loggers = [
        Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(id=None)),
        Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=Namespace()),
    ]
    asked = loggers if several else loggers[0]
    settings = Namespace(trainer=Namespace(logger=asked))
    go_on_with_trackers(settings, run)  # a run of before: nothing was written down
    assert loggers[0].init_args.id is None
    remember_trackers([WandbLogger(tmp_path), CSVLogger(tmp_path)], run)
    go_on_with_trackers(settings, run)
    assert (loggers[0].init_args.id, vars(loggers[1].init_args)) == ("abc", {})
    loggers[0].init_args.id = "own"
    go_on_with_trackers(settings, run)
    assert loggers[0].init_args.id == "own"
    for nothing in (None, True, False):
        go_on_with_trackers(Namespace(trainer=Namespace(logger=nothing)), run)


@pytest.mark.slow
def test_weights_and_biases_works_offline(
    phantoms: Path, small_fit: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="the extra `tracking` is not installed")
    out = tmp_path / "run"
    fit_with(
        phantoms, small_fit, out,
        "--trainer.logger=WandbLogger", "--trainer.logger.offline=true",
        f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.project=cells",
    )  # fmt: skip
    kept = list(tmp_path.glob("**/offline-run-*/*.wandb"))
    assert len(kept) == 1
    content = kept[0].read_bytes()
    assert b"val/dice" in content
    assert b"data.batch_size" in content
    assert logged(out, "val/dice")
