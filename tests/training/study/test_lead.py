"""Two processes in one study's folder: the second is refused until the first is gone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from training.study.conduct import Place, conduct
from training.study.config import StudyConfig, StudyError
from training.study.lead import leading

HOLD = """
import pathlib, subprocess, sys
from training.study.lead import leading
with leading(pathlib.Path(sys.argv[1])):
    # A child that outlives it, as workers do for the time of a step.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_the_second_process_is_refused_until_the_first_is_killed(
    study_of: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        try:
            with pytest.raises(StudyError, match=f"being run by process {first.pid} on ") as said:
                conduct(study_of(), tmp_path, Place())
            assert "\n" not in str(said.value)
            assert not (tmp_path / "study.yaml").exists()

            first.kill()
            first.wait()
            with leading(tmp_path):
                pass
        finally:
            first.kill()
            subprocess.run(["kill", str(child)], check=True)


def test_a_study_that_ended_or_failed_can_be_led_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), leading(tmp_path):
        raise KeyboardInterrupt
    with leading(tmp_path), pytest.raises(StudyError, match="being run by process"):
        leading(tmp_path).__enter__()
