"""Where cells run: processes of this machine, a Ray cluster, or an array of SLURM jobs.

Scheduling over machines is left to engines made for it. Each calls the same ``run_cell`` with the
same folders, so a study that was begun on one can be gone on with on another.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from contract.session import usable_cores
from training.study.cells import Cell
from training.study.config import StudyError
from training.study.run_cell import run_cell, write_failure

Options = Mapping[str, Any]
POLL_S = 2.0
# Held by a process of the pool while it runs a cell.
_AT_WORK = threading.Lock()
# A process that was killed twice over the same cell will be so a third time.
MOST_DEATHS = 2


def run_locally(folders: Sequence[Path], *, jobs: int, options: Options) -> Iterator[Path]:
    """Run ``jobs`` cells at a time in processes of their own; yield each when it is over.

    A process that is killed (for its memory, say) takes only its own cell with it.
    """
    if options:
        raise StudyError(f"the local engine has no options, got {', '.join(options)}")
    threads = max(1, usable_cores() // jobs)
    waiting, deaths = list(folders), dict.fromkeys(folders, 0)
    while waiting:
        with ProcessPoolExecutor(jobs, _processes(), initializer=_end_with_parent) as pool:
            running: dict[Future[None], Path] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        folder = waiting.pop(0)
                        running[pool.submit(_work, folder, threads)] = folder
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        future.result()
                        yield running.pop(future)
            except BrokenProcessPool:
                # All that ran are suspects; the next pool runs them again.
                for folder in running.values():
                    deaths[folder] += 1
                    if deaths[folder] < MOST_DEATHS:
                        waiting.insert(0, folder)
                        continue
                    _write_death(folder)
                    yield folder


def _work(folder: Path, threads: int) -> None:
    with _AT_WORK:
        run_cell(folder, threads)


def _end_with_parent() -> None:
    """Let this process end, keeping its last step, when the study's is killed."""
    parent = multiprocessing.parent_process()

    def wait_for_end() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            # A training keeps its step and raises SystemExit, which the pool takes for the cell's
            # own fault: this process would wait for its next cell for ever.
            with _AT_WORK:
                os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait_for_end, daemon=True).start()


def _processes() -> multiprocessing.context.BaseContext:
    """Return how processes are made: forked from one that has imported everything, where that is.

    Importing torch and Lightning takes each new process 10 s of a core. This very process is no
    good to fork from, because it has threads by now.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.study.run_cell"])
    return context


def _write_death(folder: Path) -> None:
    write_failure(
        folder,
        "the process was killed while it ran this cell, perhaps for its memory; see log.txt, and "
        "try --jobs 1 or a smaller data.batch_size",
    )


def run_on_ray(folders: Sequence[Path], *, jobs: int, options: Options) -> Iterator[Path]:
    """Run cells as Ray tasks; ``options`` are those of ``ray.init``, such as ``address``.

    A task asks for its share of a machine's cores, and for a GPU where the cluster has any. The
    study's folder has to be on a file system that all machines share.
    """
    try:
        import ray
    except ImportError as error:
        raise StudyError("the ray engine needs Ray: pip install 'longskip[cluster]'") from error
    # Ray would tell its makers of each start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    connected = {"include_dashboard": False, "log_to_driver": False} | dict(options)
    if "address" in options:
        connected.pop("include_dashboard")  # the cluster's own affair
    ray.init(**connected)
    try:
        resources: dict[str, float] = ray.cluster_resources()
        machines = max(1, sum(key.startswith("node:") for key in resources) - 1)
        cores = int(resources.get("CPU", 1))
        threads = max(1, cores // max(jobs, machines))
        gpus = 1 if resources.get("GPU") else 0
        task: Any = ray.remote(run_cell)
        task = task.options(num_cpus=threads, num_gpus=gpus, max_retries=1)
        running: dict[Any, Path] = {task.remote(folder, threads): folder for folder in folders}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                folder = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.WorkerCrashedError:
                    _write_death(folder)
                yield folder
    finally:
        ray.shutdown()


def run_on_slurm(folders: Sequence[Path], *, jobs: int, options: Options) -> Iterator[Path]:
    """Submit cells as one SLURM array of at most ``jobs`` at a time, by submitit.

    ``options`` are submitit's own parameters, such as ``slurm_partition=gpu timeout_min=240
    cpus_per_task=8``; ``cluster=local`` runs the same jobs on this machine, to try them.
    """
    try:
        import submitit
    except ImportError as error:
        raise StudyError(
            "the slurm engine needs submitit: pip install 'longskip[cluster]'"
        ) from error
    given = dict(options)
    cluster = given.pop("cluster", "slurm")
    threads = int(given.get("cpus_per_task", 1))
    logs = Cell.study(folders[0]) / "slurm"
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    except RuntimeError as error:
        raise StudyError(
            f"SLURM cannot be reached from here ({error}); run this on a login node, or try the "
            "jobs by --engine-option cluster=local"
        ) from error
    array = {"slurm_array_parallelism": jobs} if cluster == "slurm" else {}
    executor.update_parameters(cpus_per_task=threads, **array, **given)
    running = dict(
        zip(
            executor.map_array(run_cell, list(folders), [threads] * len(folders)),
            folders,
            strict=True,
        )
    )
    while running:
        for job in [job for job in running if job.done()]:
            folder = running.pop(job)
            if job.exception() is not None:
                _write_death(folder)
            yield folder
        time.sleep(POLL_S if running else 0)


ENGINES: dict[str, Callable[..., Iterator[Path]]] = {
    "local": run_locally,
    "ray": run_on_ray,
    "slurm": run_on_slurm,
}
