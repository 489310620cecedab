"""The README's commands, run as they stand, in order, in a copy of the folder.

A comment on the line before a block says otherwise: ``<!-- needs the service -->`` runs it against
a started service, ``<!-- not run: REASON -->`` leaves it out. ``fit`` gets one epoch of
a small net, by a ``python`` that stands first on the path.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import read_image
from imaging.label_png import read_mask

ROOT = Path(__file__).resolve().parent.parent
CODE = ("imaging", "contract", "training", "service", "docs")
NEEDS_SERVICE, NOT_RUN = "needs the service", "not run: "
ADDRESS = "http://127.0.0.1:8000"
START_TIMEOUT_S = 120.0
FIT_IS_SHORT = "--trainer.max_epochs=1 --net.widths=[8,16]"
SAMPLE = "docs/samples/nuclei-1.png"
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))


@dataclass(frozen=True)
class Block:
    """One fenced block that could be run; ``place`` is file and line."""

    place: str
    language: str
    mark: str
    text: str


def read_blocks(path: Path, *, languages: tuple[str, ...]) -> list[Block]:
    """Return a document's blocks of these languages, in order."""
    text = path.read_text()
    fenced = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Block(
            f"{path.name}:{text[: found.start()].count(chr(10)) + 1}",
            found[2],
            found[1] or "",
            found[3],
        )
        for found in fenced.finditer(text)
        if found[2] in languages
    ]


README = read_blocks(ROOT / "README.md", languages=("bash", "python"))
GUIDE_PYTHON = [block for path in GUIDES for block in read_blocks(path, languages=("python",))]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's folder as after ``make``: code by link, models as a copy."""
    folder = tmp_path_factory.mktemp("longskip")
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "models", folder / "models")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$2 $3" = "training fit" ] && set -- "$@" {FIT_IS_SHORT}\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def trained(sandbox: Path) -> Path:
    """The same folder after the README's training commands; the guides go on from there."""
    for block in README:
        if not block.mark:
            run(block, sandbox)
    return sandbox


def environment(folder: Path) -> dict[str, str]:
    """This process's environment without Longskip's settings, the folder's python first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LONGSKIP_")}
    path = f"{folder / 'bin'}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1", "LONGSKIP_THREADS": "1"}


@contextmanager
def started_service(folder: Path) -> Iterator[str]:
    """Serve the folder's models on a free port; yield the address."""
    log = folder / "service.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=folder,
            env=environment(folder) | {"LONGSKIP_PORT": "0"},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"page +(http://\S+)/", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)


def run(block: Block, folder: Path, address: str = ADDRESS) -> str:
    """Run a block and return what it printed; a failure shows the block and its output."""
    host = ADDRESS.removeprefix("http://")  # some clients are given no scheme
    text = block.text.replace(host, address.removeprefix("http://"))
    shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else ["python", "-c"]
    done = subprocess.run(
        [*shell, text],
        cwd=folder,
        env=environment(folder),
        executable=None if block.language == "bash" else folder / "bin" / "python",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block.place}\n{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_mark_is_known_and_blocks_are_found() -> None:
    for block in (*README, *GUIDE_PYTHON):
        marked = block.mark.startswith(NOT_RUN) and len(block.mark) > len(NOT_RUN)
        assert block.mark in ("", NEEDS_SERVICE) or marked, block.place
    by_mark = [block.mark.partition(":")[0] for block in README]
    assert by_mark.count("") >= 4
    assert by_mark.count(NEEDS_SERVICE) >= 2
    assert GUIDE_PYTHON


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_training_commands_lead_to_a_comparison(trained: Path) -> None:
    for name, skips in (("mine", "concat"), ("mine-noskip", "none")):
        spec = Model.open(trained / "models" / name / "1" / "model.onnx").spec
        assert set(spec.net.long_skips) == {skips}
    summary = json.loads((trained / "scores" / "summary.json").read_text())
    assert summary["images_in_training_set"] == 0
    assert set(summary["difference"]["dice"]) == {"cell"}


@pytest.mark.slow
def test_service_commands_give_the_models_mask(sandbox: Path) -> None:
    printed = {}
    with started_service(sandbox) as address:
        for block in README:
            if block.mark == NEEDS_SERVICE:
                printed[block.language] = run(block, sandbox, address)
        sha256 = _examples_look_like_answers(address)
    model = Model.open(_file_that_answered(sandbox, sha256), device="cpu", threads=1)
    pixels = match_channels(read_image(ROOT / SAMPLE).pixels_hwc, model.spec.channels)
    labels = model.segment(to_chw_float32(pixels)).labels
    np.testing.assert_array_equal(read_mask(sandbox / "mask.png"), labels)
    area = int((labels == 1).sum())
    assert json.loads(printed["bash"])["classes"][0]["area_px"] == area
    assert f"{area} px" in printed["python"]


@pytest.mark.slow
@pytest.mark.parametrize("block", GUIDE_PYTHON, ids=lambda block: block.place)
@pytest.mark.timeout(600)
def test_the_guides_python_runs(block: Block, request: pytest.FixtureRequest) -> None:
    if block.mark == NEEDS_SERVICE:
        folder = request.getfixturevalue("sandbox")
        with started_service(folder) as address:
            assert run(block, folder, address).strip()
    else:
        assert run(block, request.getfixturevalue("trained")).strip()


def _file_that_answered(folder: Path, sha256: str) -> Path:
    (path,) = (
        path
        for path in (folder / "models" / "nuclei" / "1").glob("*.onnx")
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    )
    return path


def _examples_look_like_answers(address: str) -> str:
    """The guide's JSON has the keys, in each place, of what the service sends.

    Returns the hash of the file that answered, as the headers tell it.
    """
    examples = [json.loads(block.text) for block in _json_examples()]
    url = f"{address}/v1/models/nuclei/segment"
    image = (ROOT / SAMPLE).read_bytes()
    sent = [
        httpx.post(url, params={"format": name}, content=image, timeout=60)
        for name in ("json", "geojson")
    ]
    answers = [answer.json() for answer in sent]
    answers.append(httpx.get(f"{address}/v1/models/other").json())
    assert [_keys(example) for example in examples] == [_keys(answer) for answer in answers]
    return sent[0].headers["X-Longskip-Sha256"]


def _json_examples() -> list[Block]:
    return read_blocks(ROOT / "docs" / "guide" / "serve.md", languages=("json",))


def _keys(value: Any) -> Any:
    """Return the nested keys of a JSON value; a list is told by its first entry."""
    if isinstance(value, dict):
        return {key: _keys(entry) for key, entry in value.items()}
    if isinstance(value, list) and value:
        return [_keys(value[0])]
    return type(value).__name__
