"""What the documents name is there: links, files, commands, settings, statuses, formats."""

import importlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from contract import __main__ as contract_command
from service import keys, predict
from service.command_line import parse_settings
from service.connection import HEAD_TOO_LARGE, MALFORMED
from service.engine.encode import ENCODINGS
from service.protocols.problems import KINDS, UNEXPECTED, problem_for
from service.settings import ENVIRONMENT_PREFIX, Settings
from training.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
NAMED = {str(path.relative_to(ROOT)): path for path in DOCUMENTS}
ROOMS = ("imaging", "contract", "training", "service", "models", "benchmarks", "docker", "docs")
# Of Docker, Triton and TensorBoard.
FOREIGN_OPTIONS = {"--profile", "--build-arg", "--gpus", "--shm-size", "--format"}
FOREIGN_OPTIONS |= {"--model-repository", "--logdir", "--node-rank"}
SHARED = "LONGSKIP_SHARED"  # read by tests/conftest.py

every_document = pytest.mark.parametrize("document", NAMED.values(), ids=NAMED)


def test_the_documents_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/guide/serve.md"} <= set(NAMED)
    assert len(ADRS) >= 6


@every_document
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for target, heading in re.findall(
        r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)", document.read_text()
    ):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {target}"
        if heading:
            assert heading[1:] in _headings(path), f"{document.name} links to {target}{heading}"


@every_document
def test_files_named_are_there(document: Path) -> None:
    named = re.findall(r"`([\w.-]+/[\w./-]*)`", document.read_text())
    ours = [name for name in named if name.split("/")[0] in (*ROOMS, "tests", ".ci")]
    missing = [name for name in ours if not (ROOT / name).exists()]
    assert not missing


def _command_lines(text: str) -> list[tuple[str, list[str]]]:
    """Return (package, arguments) of each ``python -m …`` line, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"^(?:LONGSKIP_\S+ )*python -m (\w+)(.*)$", joined, re.MULTILINE)
    return [(package, shlex.split(rest, comments=True)) for package, rest in found]


LINES = [
    (str(path.relative_to(ROOT)), package, tuple(arguments))
    for path in DOCUMENTS
    for package, arguments in _command_lines(path.read_text())
]


def _parse_service(arguments: Sequence[str]) -> object:
    if arguments[:1] == ["key"]:
        return keys.build_parser().parse_args(arguments[1:])
    if arguments[:1] == ["predict"]:
        return predict.build_parser().parse_args(arguments[1:])
    return parse_settings(arguments)


@pytest.fixture(scope="module")
def parsers() -> dict[str, Callable[[Sequence[str]], object]]:
    """The real parser of every command, by the words that call it."""
    found: dict[str, Callable[[Sequence[str]], object]] = {"service": _parse_service}
    for name, (module, _) in COMMANDS.items():
        found[f"training {name}"] = importlib.import_module(module).build_parser().parse_args
    found["contract"] = contract_command._parser().parse_args
    return found


@pytest.mark.parametrize(("document", "package", "arguments"), LINES)
def test_command_lines_parse(
    document: str,
    package: str,
    arguments: tuple[str, ...],
    parsers: dict[str, Callable[[Sequence[str]], object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    command = package if package != "training" else f"training {arguments[0]}"
    rest = list(arguments if package != "training" else arguments[1:])
    try:
        parsers[command](rest)
    except SystemExit as error:
        if rest != ["--help"] and "--help" not in rest:
            pytest.fail(f"{document}: {shlex.join(['python', '-m', package, *arguments])}: {error}")


def test_command_lines_are_found_and_a_wrong_one_would_fail(
    parsers: dict[str, Callable[[Sequence[str]], object]],
) -> None:
    assert {package for _, package, _ in LINES} == {"training", "service", "contract"}
    assert _command_lines("python -m training fit \\\n  --data.root a") == [
        ("training", ["fit", "--data.root", "a"])
    ]
    for command, wrong in (("training fit", "--data.rot=a"), ("service", "--prot=1")):
        with pytest.raises(SystemExit):
            parsers[command]([wrong])


@every_document
def test_options_in_the_text_are_known(
    document: Path, parsers: dict[str, Callable[[Sequence[str]], object]]
) -> None:
    known = set(FOREIGN_OPTIONS) | {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    for parse in parsers.values():
        known |= set(getattr(getattr(parse, "__self__", None), "_option_string_actions", ()))
    for own in (keys, predict):
        known |= set(own.build_parser()._option_string_actions)
    known |= {"--spec", "--to", "--intensities", "--golden-size"}  # of contract's subcommand
    named = re.findall(r"`(?:[^`\n]* )?(--[a-z][\w.-]*[a-z])[^`\n]*`", document.read_text())
    assert not [option for option in named if option not in known]


def test_the_guide_lists_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `LONGSKIP_(\w+)` \| (\S+) \|", _guide("serve"), re.MULTILINE)
    real = {
        name.upper(): "none" if field.default in (None, (), "") else f"`{field.default}`"
        for name, field in Settings.model_fields.items()
    }
    assert dict(rows) == real


@every_document
def test_variables_are_settings_or_composes_own(document: Path) -> None:
    settings = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    composed = set(re.findall(r"LONGSKIP_[A-Z_]+", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"LONGSKIP_[A-Z_]*[A-Z]", document.read_text()))
    assert named <= settings | composed | {SHARED, predict.KEY_VARIABLE}


def test_the_guide_lists_every_problem_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([\w-]+)` \|", _guide("serve"), re.MULTILINE)
    # Never sent: the first is the class above the others, and nobody is there to read the second.
    kinds = [k for k in (*KINDS.values(), UNEXPECTED) if k.slug not in ("image", "client-gone")]
    routing = [problem_for(HTTPException(status)).kind for status in (404, 405)]
    kinds += [*routing, MALFORMED.kind, HEAD_TOO_LARGE.kind]
    assert sorted(rows) == sorted((str(kind.status), kind.slug) for kind in kinds)


def test_the_readme_lists_every_format() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: \(default\))? \| ", NAMED["README.md"].read_text(), re.M)
    assert set(rows) == set(ENCODINGS)


@every_document
def test_make_targets_are_there(document: Path) -> None:
    # Of an outer make, which would change what the inner one does.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for target in sorted(set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.M))):
        planned = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, env=clean, capture_output=True, text=True
        )
        assert planned.returncode == 0, f"make {target}: {planned.stderr}"


@pytest.mark.parametrize("adr", ADRS, ids=lambda path: path.stem)
def test_decisions_are_numbered_and_say_what_was_rejected(adr: Path) -> None:
    text = adr.read_text()
    assert text.startswith(f"# {adr.name[:4]}: ")
    assert int(adr.name[:4]) == ADRS.index(adr) + 1
    for part in ("**Decided.**", "**Why", "**Rejected.**", "**Consequences.**"):
        assert part in text
    assert len(text.splitlines()) <= 60, "a decision is one page"


def _guide(name: str) -> str:
    return (ROOT / "docs" / "guide" / f"{name}.md").read_text()


def _headings(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
