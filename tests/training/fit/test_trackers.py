"""Lightning's own loggers by configuration, beside the run's own files."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

from training.fit.run_directory import RunDirectory
from training.fit.trackers import log_settings, with_trackers

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
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # MLflow 3 wants a data base or a server, but still has its file store for who asks.
        "MLFLOW_ALLOW_FILE_STORE": "true",
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
def test_mlflow_gets_settings_and_metrics(
    phantoms: Path, small_fit: tuple[str, ...], tmp_path: Path
) -> None:
    pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")
    out, store = tmp_path / "run", tmp_path / "mlruns"
    fit_with(
        phantoms, small_fit, out,
        "--trainer.logger=MLFlowLogger", f"--trainer.logger.tracking_uri=file:{store}",
        "--trainer.logger.run_name=first",
    )  # fmt: skip
    kept = next(store.glob("*/*/params")).parent
    assert (kept / "params" / "data.batch_size").read_text() == "4"
    assert not (kept / "params" / "data.root").exists()
    value = float((kept / "metrics" / "val" / "dice").read_text().split()[1])
    assert value == pytest.approx(logged(out, "val/dice")[-1], abs=1e-6)


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
