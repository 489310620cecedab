"""Probes that stand beside a training: what they write, and that they change nothing."""

import csv
from pathlib import Path

import pytest
import torch

from contract.errors import RequestInvalid
from training.__main__ import main
from training.fit.checkpoint import read_whole
from training.probe.command import PROBES
from training.probe.gradient_flow import LayerGradient
from training.probe.growing_table import GrowingTable, spread_steps
from training.probe.probed import open_probed

pytestmark = pytest.mark.slow

WATCH = (
    "--trainer.callbacks+=training.probe.watch_gradients.WatchGradients",
    "--trainer.callbacks.every_n_steps=4",
    "--trainer.callbacks+=training.probe.watch_norms.WatchNorms",
    "--trainer.callbacks.every_n_steps=4",
)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_watching_a_training_leaves_its_weights_as_they_are_and_writes_tables(
    phantoms: Path, small_fit: tuple[str, ...], run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "watched"
    assert main(["fit", f"--data.root={phantoms}", f"--out={out}", *small_fit, *WATCH]) == 0
    watched, plain = (
        read_whole(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (out, run_folder)
    )
    assert all(torch.equal(watched[name], value) for name, value in plain.items())

    layers = rows_of(out / "gradient_flow.csv")
    steps = list(dict.fromkeys(int(row["step"]) for row in layers))
    assert steps[:2] == [0, 4]
    first = [row for row in layers if row["step"] == "0"]
    assert len(first) == 13
    for row in first:
        # OneCycle begins at a 25th of the highest rate, and Adam's first step moves each weight by
        # the rate at most.
        assert 0 < float(row["update_per_weight"]) < 0.01
        assert float(row["gradient_norm"]) > 0
    units = rows_of(out / "norm_preservation.csv")
    assert list(dict.fromkeys(int(row["step"]) for row in units)) == steps
    assert all(float(row["ratio"]) > 0 for row in units)
    for name in ("gradient_flow", "norm_preservation"):
        assert (out / f"{name}.png").is_file()
        assert (out / f"{name}.svg").is_file()


def test_a_resumed_table_keeps_whole_rows_of_earlier_steps(tmp_path: Path) -> None:
    def row(step: int, update: float | None) -> LayerGradient:
        return LayerGradient(step, 0, 1, "a", "a, b", True, False, 1e-30, 0.1, 1e-29, update)

    table = GrowingTable(tmp_path / "new" / "flow.csv", LayerGradient)
    assert table.read() == []
    table.begin(0)
    earlier = [row(0, 0.5), row(10, None), row(20, 0.25)]
    table.add(earlier)
    assert table.read() == earlier
    with table.path.open("a") as file:
        file.write("30,0,1,a,cut")  # killed while it wrote
    assert table.read() == earlier
    again = GrowingTable(table.path, LayerGradient)
    again.begin(20)
    assert again.read() == earlier[:2]
    assert spread_steps([row(step, None) for step in range(0, 1000, 10)])[::6] == [0, 990]


@pytest.mark.parametrize(
    ("probe", "figures"),
    [
        ("gradient-flow", {"convs", "first_per_last", "centre_per_last"}),
        ("norm-preservation", {"units", "ratio_geometric_mean", "ratio_lowest", "ratio_highest"}),
    ],
)
def test_a_run_is_probed_by_one_backward_pass(
    run_folder: Path, tmp_path: Path, probe: str, figures: set[str]
) -> None:
    found = PROBES[probe](open_probed(run_folder, device="cpu"), tmp_path)
    assert found.keys() == figures
    assert all(value > 0 for value in found.values())
    name = probe.replace("-", "_")
    assert len(rows_of(tmp_path / f"{name}.csv")) == (13 if probe == "gradient-flow" else 4)
    assert (tmp_path / f"{name}.png").is_file()


def test_the_ways_of_a_run_without_short_skips_are_refused(
    run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestInvalid, match=r"--net\.block residual"):
        PROBES["path-lengths"](open_probed(run_folder, device="cpu"), tmp_path)
