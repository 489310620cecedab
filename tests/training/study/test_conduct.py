import csv
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from training.__main__ import main
from training.fit.checkpoint import read_checkpoint
from training.study.cells import Cell, read_cell, read_outcome, write_cell
from training.study.conduct import Place, conduct
from training.study.config import StudyConfig, StudyError
from training.study.engines import run_locally
from training.study.run_cell import run_cell
from training.study.score import score_graph


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def copied(ran_study: Any, root: Path) -> Path:
    """Return the folder of the first cell in a copy of the study."""
    shutil.copytree(ran_study.root, root)
    return ran_study.conducted.reported[0].folder(root)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")[1]


def test_every_cell_of_the_grid_is_run(ran_study: Any) -> None:
    runs = rows(ran_study.root / "runs.csv")

    assert not ran_study.conducted.failed
    assert [(row["arm"], row["seed"]) for row in runs] == [
        ("all", "0"),
        ("none", "0"),
        ("all", "1"),
        ("none", "1"),
    ]
    assert {row["state"] for row in runs} <= {"done", "collapsed"}
    assert len(rows(ran_study.root / "sweep.csv")) == 4  # 2 arms x 2 rates


def test_the_unit_of_lengths_is_kept(ran_study: Any) -> None:
    (images,) = yaml.safe_load((ran_study.root / "study.yaml").read_text())["images"].values()
    assert (images["length_unit"], images["nsd_tolerance"]) == ("px", 2.0)


def test_every_arm_is_scored_on_the_same_held_out_images(ran_study: Any) -> None:
    cases = rows(ran_study.root / "cases.csv")
    stems = {
        (arm, seed): [r["stem"] for r in cases if (r["arm"], r["seed"]) == (arm, seed)]
        for arm in ("all", "none")
        for seed in ("0", "1")
    }

    assert len(set(map(tuple, stems.values()))) == 1
    assert len(stems["all", "0"]) == 2


def test_the_rate_that_trains_an_arm_is_the_best_of_its_tries(ran_study: Any) -> None:
    tries = rows(ran_study.root / "sweep.csv")
    for run in rows(ran_study.root / "runs.csv"):
        own = [t for t in tries if t["arm"] == run["arm"]]
        best = max(own, key=lambda t: (float(t["dice"]), -float(t["loss_nats"])))
        assert run["lr"] == best["lr"]
    assert {t["seed"] for t in tries} == {"1000"}  # of no reported run


def test_seeds_differ_in_weights_and_arms_in_skips_alone(ran_study: Any) -> None:
    folders = {
        (cell.arm, cell.seed): cell.folder(ran_study.root) for cell in ran_study.conducted.reported
    }
    one, other = weights(folders["all", 0]), weights(folders["all", 1])

    assert any(not torch.equal(one[name], other[name]) for name in one)
    settings = {arm: read_cell(folders[arm, 0]).settings for arm in ("all", "none")}
    differing = {k for k in settings["all"] if settings["all"][k] != settings["none"].get(k)}
    assert differing == {"net.long_skips"}


def test_a_finished_study_is_not_run_again(ran_study: Any) -> None:
    outcome = ran_study.conducted.reported[0].folder(ran_study.root) / "outcome.json"
    written_ns = outcome.stat().st_mtime_ns

    conducted = conduct(ran_study.config, ran_study.root, Place())

    assert not conducted.failed
    assert outcome.stat().st_mtime_ns == written_ns


def test_a_run_that_ends_before_its_steps_is_no_result(ran_study: Any, tmp_path: Path) -> None:
    folder = copied(ran_study, tmp_path / "study")
    cell = folder / "cell.yaml"
    cell.write_text(cell.read_text().replace("steps: 4", "steps: 5"))
    (folder / "outcome.json").unlink()

    run_cell(folder)  # its checkpoint says that it was trained to its end, after 4 steps

    assert "ended after 4 of 5 steps" in (folder / "failed.txt").read_text()


@pytest.mark.parametrize("name", ["cell.yaml", "outcome.json"])
def test_a_damaged_file_is_named(name: str, ran_study: Any, study_of: Any, tmp_path: Path) -> None:
    (copied(ran_study, tmp_path / "study") / name).write_text('{"dice": 0.')

    with pytest.raises(StudyError, match=f"{name} is damaged; remove"):
        conduct(study_of(), tmp_path / "study", Place())


def test_a_seed_can_be_added_to_a_finished_study(
    ran_study: Any, study_of: Any, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(ran_study.root, root)
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("last.ckpt")}

    conducted = conduct(study_of(seeds=[0, 1, 2]), root, Place())

    assert not conducted.failed
    assert len(rows(root / "runs.csv")) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_cell_that_lost_its_outcome_scores_the_same_net_again(
    ran_study: Any, tmp_path: Path
) -> None:
    folder = copied(ran_study, tmp_path / "study")
    before = (folder / "cases.csv").read_bytes()
    (folder / "outcome.json").unlink()
    (folder / "cases.csv").unlink()
    trained_ns = (folder / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns

    # Its run's config names the first study's folder; what counts is where the cell lies.
    run_cell(folder)

    assert (folder / "cases.csv").read_bytes() == before
    assert (folder / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained_ns


def test_a_cell_that_was_begun_and_never_kept_starts_again(ran_study: Any, tmp_path: Path) -> None:
    done = ran_study.conducted.reported[0].folder(ran_study.root)
    folder = copied(ran_study, tmp_path / "study")
    (folder / "outcome.json").unlink()
    shutil.rmtree(folder / "run" / "checkpoints")
    (folder / "run" / "config.yaml").write_text("half")

    run_cell(folder)

    again, first = weights(folder), weights(done)
    # Another number of threads rounds in another way; another start would be far off.
    assert all(torch.allclose(again[name], first[name], atol=1e-4) for name in first)


def test_other_settings_in_a_begun_folder_are_refused(
    ran_study: Any, study_of: Any, tmp_path: Path
) -> None:
    root = tmp_path / "study"
    shutil.copytree(ran_study.root, root)

    written = (root / "study.yaml").read_bytes()
    with pytest.raises(StudyError, match="steps differ"):
        conduct(study_of(steps=6), root, Place())
    assert (root / "study.yaml").read_bytes() == written
    with pytest.raises(StudyError, match="holds the study 'small'"):
        conduct(study_of(name="another"), root, Place())


def test_another_metric_is_taken_of_the_nets_that_are_there(ran_study: Any, tmp_path: Path) -> None:
    cell = ran_study.conducted.reported[0]
    root = tmp_path / "study"
    trained_ns = (copied(ran_study, root) / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    more = Cell(**{**vars(cell), "metrics": ("dice", "nsd")})

    folder = write_cell(more, root)
    assert read_outcome(folder) is None
    run_cell(folder)

    assert "nsd" in rows(folder / "cases.csv")[0]
    assert (folder / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained_ns


def test_a_cell_that_fails_says_why_and_leaves_the_others(
    study_of: Callable[..., StudyConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(
        arms={"all": {}, "too-many": {"data.batch_size": 500}},
        seeds=[0],
        learning_rates=[0.01],
    )

    conducted = conduct(study, tmp_path, Place(jobs=1))

    assert [folder.parts[-2] for folder in conducted.failed] == ["too-many"]
    reason = (conducted.failed[0] / "failed.txt").read_text()
    assert "do not fill one batch of 500" in reason
    assert [row["state"] for row in rows(tmp_path / "runs.csv")][1] == "failed"
    assert "too-many seed-0: FAILED" in capsys.readouterr().out


def test_a_study_of_no_steps_looks_at_fresh_nets(
    study_of: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    study = study_of(steps=0, probes=["gradient-flow"])

    conducted = conduct(study, tmp_path, Place())

    assert not conducted.failed
    assert not conducted.sweep
    for run in rows(tmp_path / "runs.csv"):
        assert run["dice"] == ""
        assert float(run["gradient-flow.first_per_last"]) > 0
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_first_seed_is_watched_where_the_study_says_so(
    study_of: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    study = study_of(
        watch=["gradient-flow", "norm-preservation"],
        base=study_of().base | {"net.convs_per_block": 2},
        learning_rates=[0.01],
    )

    conducted = conduct(study, tmp_path, Place())

    assert not conducted.failed
    for cell in conducted.reported:
        run = cell.folder(tmp_path) / "run"
        for name in ("gradient_flow", "norm_preservation"):
            assert (run / f"{name}.csv").is_file() == (cell.seed == 0), name
    flow = rows(conducted.reported[0].folder(tmp_path) / "run" / "gradient_flow.csv")
    assert {row["step"] for row in flow} == {"0", "1", "2", "3"}


def test_a_process_that_dies_twice_gives_its_cell_up(ran_study: Any, tmp_path: Path) -> None:
    cell = Cell(**{**vars(ran_study.conducted.reported[0]), "steps": 100_000})
    folder = write_cell(cell, tmp_path)
    over: list[Path] = []
    run = threading.Thread(
        target=lambda: over.extend(run_locally([folder], jobs=1, options={})), daemon=True
    )

    run.start()
    deadline_s = time.monotonic() + 60
    while run.is_alive() and time.monotonic() < deadline_s:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.2)
    run.join(1)

    assert over == [folder]
    assert "was killed" in (folder / "failed.txt").read_text()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_study_leaves_no_process_and_keeps_its_step(
    ran_study: Any, tmp_path: Path
) -> None:
    cell = Cell(**{**vars(ran_study.conducted.reported[0]), "steps": 100_000})
    folder = write_cell(cell, tmp_path)
    leader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from training.study.engines import run_locally\n"
            "list(run_locally([pathlib.Path(sys.argv[1])], jobs=1, options={}))",
            str(folder),
        ],
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 300
        while not list(folder.glob("run/logs/events*")) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        leader.kill()
        leader.wait()
        while _group_lives(leader.pid) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert not _group_lives(leader.pid)
    finally:
        if _group_lives(leader.pid):
            os.killpg(leader.pid, signal.SIGKILL)

    assert (folder / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_data_set_without_a_folder_is_named(study_of: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--dataset ph=DIR"):
        conduct(study_of(datasets={"ph": {}}), tmp_path, Place())
    with pytest.raises(StudyError, match="names no data set"):
        conduct(study_of(datasets={}), tmp_path, Place())


def test_an_arm_whose_settings_do_not_fit_stops_the_study_before_it_starts(
    study_of: Any, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"arm wrong on ph: .*long_skips names 3 levels"):
        conduct(
            study_of(arms={"all": {}, "wrong": {"net.long_skips": "concat,none,none"}}),
            tmp_path,
            Place(),
        )
    with pytest.raises(StudyError, match=r"arm wrong on ph: .*widht"):
        conduct(study_of(arms={"all": {}, "wrong": {"net.widht": 3}}), tmp_path, Place())
    assert not (tmp_path / "cells").exists()


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "long-skips", "--dataset", "em"]) == 1
    assert "give NAME=DIR" in capsys.readouterr().err
    assert main(["study", "long-skips", "--dataset", "em=.", "--jobs", "0"]) == 1
    assert "--jobs must be 1 or more" in capsys.readouterr().err
    assert main(["study", "long-skips", "--seeds", "a"]) == 1
    assert "whole numbers" in capsys.readouterr().err


def test_scores_of_a_perfect_and_of_an_empty_answer(ran_study: Any) -> None:
    # Closed form: a net whose head only ever says background has Dice 0 and errs on the truth.
    from training.data.folder import load_mask, open_folder
    from training.fit.checkpoint import load_graph
    from training.score.rulers import Rulers

    cell = ran_study.conducted.reported[0]
    _, graph = load_graph(cell.folder(ran_study.root) / "run" / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        graph.net.head.weight.zero_()
        graph.net.head.bias.copy_(torch.tensor([20.0, -20.0]))
    dataset = open_folder(ran_study.config.datasets["ph"].root, progress=False)
    stem = dataset.cases[0].stem
    truth = load_mask(dataset.cases[0], dataset.spec)

    (case,) = score_graph(graph, dataset, [stem], metrics=["dice"], rulers=Rulers(), device="cpu")

    share = float((truth == 1).mean())
    assert case.measures[1].values["dice"] == 0.0
    assert case.error == pytest.approx(share)
    assert case.flat
    assert case.loss_nats == pytest.approx(share * 16.118, rel=1e-3)  # -ln of the least, 1e-7
