"""Being asked to stop: remembered, and heeded between two steps, where nothing is half done."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from training.fit.folds import read_folds
from training.fit.run_directory import RunDirectory, RunDirectoryError


class StopRequest:
    """Notes Ctrl-C, SIGTERM and, under SLURM, the requeue signal.

    Lightning would save inside the signal's handler, maybe in the middle of an optimiser step.

    Attributes:
        signal: what came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def requeues(self) -> bool:
        """Whether SLURM is to run the job again."""
        return under_slurm() and self.signal is signal.SIGUSR1

    def listen(self) -> None:
        """Take the signals over; Lightning gives them back when it ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        signals = [signal.SIGINT, signal.SIGTERM]
        if under_slurm():
            signals.append(signal.SIGUSR1)
        for number in signals:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        # Not print: the handler may have interrupted one.
        os.write(2, b"\nstopping after this step and keeping it; Ctrl-C again stops at once\n")


def under_slurm() -> bool:
    """Tell whether this process is a task of a SLURM batch job."""
    return os.name == "posix" and SLURMEnvironment.detect() and "SLURM_JOB_ID" in os.environ


def requeued_run(out: Path | None) -> Path | None:
    """Return ``out`` where a requeued SLURM job finds a run that it began; else None.

    SLURM runs a requeued job's script again as it is, so `fit` gets the command of a new run.
    """
    if out is None or os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return None
    if read_folds(out) is not None:
        return out
    try:
        RunDirectory(out).checkpoint("last")
    except RunDirectoryError:
        return None
    return out


def requeue() -> str:
    """Ask SLURM to run this job again, as Lightning does; return what came of it."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"job {job} could not be requeued (scontrol: {error.strerror})"
    if done.returncode != 0:
        return f"job {job} could not be requeued (scontrol: {done.stderr.strip()})"
    return f"job {job} is requeued"
