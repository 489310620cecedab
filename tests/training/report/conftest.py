"""A page is parsed strictly, and Chromium looks at it where it is installed."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "link", "img", "br", "hr", "input"}
# What makes a browser fetch something.
LOADING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action"}


@dataclass
class Page:
    """What is in a page: its text, its tables as rows of cells, what it would load, its ids."""

    text: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


class StrictParser(HTMLParser):
    """Takes no tag that is left open or closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.page.tables.append([])
        if tag == "tr":
            self.page.tables[-1].append([])
        if tag in ("td", "th"):
            self.page.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert "@import" not in data
            assert "url(" not in data
            return
        self.page.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.page.tables[-1][-1][-1] += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"a script in {name}"
            if name in LOADING:
                self.page.loads.append(value or "")
            if name == "id":
                self.page.ids.append(value or "")


@pytest.fixture(scope="session")
def parsed() -> Callable[[Path], Page]:
    """Parse a page; it must be well-formed and must not load anything."""

    def parse(path: Path) -> Page:
        source = path.read_text(encoding="utf-8")
        assert source.startswith("<!DOCTYPE html>")
        assert re.search(r"https?://", source) is None
        parser = StrictParser()
        parser.feed(source)
        parser.close()
        assert parser.open == []
        page = parser.page
        assert [load for load in page.loads if not load.startswith(("data:", "#"))] == []
        assert len(set(page.ids)) == len(page.ids)
        assert "script" not in page.tags
        assert "Research use only" in page.text
        return page

    return parse


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Let Chromium draw a page without a complaint and return the picture."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine, so no page is drawn")

    def render(path: Path) -> Path:
        folder = tmp_path_factory.mktemp("chromium")
        picture = folder / "page.png"
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu",
                "--disable-background-networking", "--hide-scrollbars", "--enable-logging=stderr",
                f"--user-data-dir={folder / 'profile'}", "--window-size=1000,6000",
                f"--screenshot={picture}", path.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        return picture

    return render
