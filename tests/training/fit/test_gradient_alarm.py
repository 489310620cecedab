"""The alarm in real trainings: silent where they are well, and clear where they are not."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from training.data.config import DataConfig
from training.fit.checkpoint import read_whole
from training.fit.config import FitConfig, LossConfig, OptimiserConfig
from training.fit.gradient_alarm import GradientAlarm
from training.fit.gradient_remedies import remedies
from training.fit.losses import build_loss
from training.fit.module import SegmentationModule
from training.fit.optimiser import build_optimiser
from training.fit.step_meter import StepMeter
from training.nets.config import NetConfig
from training.probe.backward import fresh, phantom_batch

DEEP = NetConfig(widths=(4, 4, 4, 4), convs_per_block=10, norm="none", init="default")
STEPS = 61


def settings(**fields: Any) -> FitConfig:
    return FitConfig(data=DataConfig(root="images"), **fields)


def train(
    config: FitConfig, folder: Path, *, steps: int = STEPS, frozen: str | None = None
) -> GradientAlarm:
    graph = fresh(config.net)
    if frozen is not None:
        graph.net.get_submodule(frozen).requires_grad_(False)
    module = SegmentationModule(
        graph,
        loss=build_loss(LossConfig(), task="multiclass", classes=2),
        optimiser=config.optimiser,
        class_names=("background", "cell"),
        ignore=255,
    )
    batch = phantom_batch(count=2, side_px=16)
    batch["statistics"] = torch.full((2, 1, 2), torch.nan)
    alarm = GradientAlarm(config, folder / "alarms.csv")
    trainer = L.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[alarm],
        **config.trainer,
    )
    loader = DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader, loader)
    return alarm


@pytest.mark.parametrize(
    "config",
    [
        settings(),
        settings(optimiser=OptimiserConfig(kind="sgd", lr=0.01)),
        settings(trainer={"precision": "bf16-mixed"}),
        settings(
            net=NetConfig(widths=(4, 6)),
            optimiser=OptimiserConfig(kind="sgd", lr=0.01),
            trainer={
                "accumulate_grad_batches": 2,
                "gradient_clip_val": 1e-3,
                "gradient_clip_algorithm": "value",
                "precision": "64-true",
            },
        ),
        settings(net=NetConfig(widths=(4, 6, 8), norm="none", init="default")),
        settings(net=NetConfig(widths=(4, 6, 8), block="residual", long_skips="attention")),
    ],
    ids=[
        "usual",
        "sgd",
        "bf16",
        "accumulated, clipped, float64",
        "default init",
        "residual, attention",
    ],
)
def test_healthy_trainings_pass_without_a_word(
    config: FitConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if config.net == NetConfig():
        config = replace(config, net=NetConfig(widths=(4, 6, 8)))
    assert train(config, tmp_path).alarms == []
    assert "alarm" not in capsys.readouterr().err
    assert not (tmp_path / "alarms.csv").exists()


def test_a_frozen_encoder_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    config = settings(net=NetConfig(widths=(4, 6, 8)))
    assert train(config, tmp_path, frozen="encoder").alarms == []


def test_seventy_convolutions_without_short_skips_are_told_dead_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alarms = train(settings(net=DEEP), tmp_path).alarms
    said = capsys.readouterr().err
    dead = {alarm.part: alarm for alarm in alarms}
    assert {"encoder level 1", "encoder level 2", "bottleneck"} <= dead.keys()
    assert "head" not in dead  # near the loss the gradient is still there
    assert dead["bottleneck"].layers == dead["bottleneck"].of == 10
    assert dead["bottleneck"].per_weight < 1e-3 * dead["bottleneck"].others
    assert said.count("alarm at step 50") == 1
    assert said.count("alarm") == len({alarm.step for alarm in alarms})
    assert "--net.init he instead of default" in said
    assert "--net.block residual: short skips around 10 convs" in said
    with (tmp_path / "alarms.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == [alarm.part for alarm in alarms]
    assert {row["fault"] for row in rows} == {"dead"}
    assert rows[0]["worst"].startswith(f"{rows[0]['part']}, conv ")


def test_the_same_net_with_short_skips_is_silent(tmp_path: Path) -> None:
    assert train(settings(net=replace(DEEP, block="residual")), tmp_path).alarms == []


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_learning_rate_of_100_explodes_within_a_few_steps(
    kind: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = NetConfig(widths=(4, 6, 8))
    config = settings(net=net, optimiser=OptimiserConfig(kind=kind, lr=100.0))
    alarms = train(config, tmp_path, steps=21).alarms
    assert alarms[0].fault == "exploding"
    assert alarms[0].step <= 4
    assert "--optimiser.lr 0.002 instead of 100" in capsys.readouterr().err
    assert len({(alarm.fault, alarm.part) for alarm in alarms}) == len(alarms)


def test_weights_that_are_no_numbers_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = NetConfig(widths=(4, 6, 8), norm="none")
    alarms = train(settings(net=net, optimiser=OptimiserConfig(kind="sgd", lr=1e30)), tmp_path)
    said = capsys.readouterr().err
    assert said.count("not finite") == 1
    assert {alarm.fault for alarm in alarms.alarms} >= {"non-finite"}


def test_remedies_name_nothing_that_the_training_has() -> None:
    assert remedies("dead", settings(net=NetConfig(norm="none"))) == [
        "--net.norm batch instead of none",
        "--net.activation leaky, which lets no unit die",
    ]
    clipped = settings(trainer={"gradient_clip_val": 1.0, "precision": "16-mixed"})
    assert remedies("exploding", clipped) == [
        "--optimiser.lr 0.0002 instead of 0.002",
        "--trainer.precision bf16-mixed or 32-true instead of 16-mixed",
    ]
    # smp's nets take none of our body's settings.
    foreign = settings(net=NetConfig(architecture="fpn"))
    assert remedies("dead", foreign) == ["--optimiser.lr 0.0002 instead of 0.002"]


def test_pull_is_the_step_without_weight_decay() -> None:
    graph = fresh(NetConfig(widths=(4, 6)))
    weight = graph.net.get_submodule("head").get_parameter("weight")
    optimiser = build_optimiser(graph, OptimiserConfig(lr=0.1, weight_decay=0.5))
    meter = StepMeter([weight, graph.net.get_submodule("bottleneck.0").get_parameter("weight")])
    weight.grad = torch.zeros_like(weight)
    before = weight.detach().clone()
    meter.before_step()
    optimiser.step()
    gradient, norm, update, pull = meter.after_step([0.05, 0.05])[:, 0].tolist()
    assert gradient == 0
    assert norm == pytest.approx(float(before.norm()))
    assert update == pytest.approx(0.05 * norm, rel=1e-5)
    assert pull < 1e-6 * norm
    assert meter.trained == {0}  # the other one had no gradient


@pytest.mark.slow
def test_what_was_said_stands_in_the_checkpoint(
    phantoms: Path, small_fit: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.__main__ import main

    out = tmp_path / "run"
    fast = ("--optimiser.lr=100", "--optimiser.schedule=constant")
    assert main(["fit", f"--data.root={phantoms}", f"--out={out}", *small_fit, *fast]) == 0
    said = capsys.readouterr().err
    assert said.count("alarm at step") >= 1
    with (out / "alarms.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = read_whole(out / "checkpoints" / "last.ckpt")["callbacks"]["GradientAlarm"]["alarms"]
    assert [(one["fault"], one["part"]) for one in kept] == [(r["fault"], r["part"]) for r in rows]
    again = GradientAlarm(settings(), out / "alarms.csv")
    again.load_state_dict({"alarms": kept})
    assert [alarm.part for alarm in again.alarms] == [row["part"] for row in rows]


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_formats_that_round_the_image_before_it_is_normalised_are_refused(precision: str) -> None:
    with pytest.raises(ValueError, match=f"{precision} would round .* take bf16-mixed"):
        settings(trainer={"precision": precision})
