"""Model files that change while they are asked: replaced, damaged, added, taken away."""

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from numpy.random import Generator

from contract.repository import MODEL_FILE


class Swaps(threading.Thread):
    """Changes the repository again and again; at its end every model has a whole file.

    Attributes:
        done: how many changes there were.
    """

    def __init__(
        self, root: Path, names: Sequence[str], files: Sequence[Path], random: Generator
    ) -> None:
        super().__init__(daemon=True)
        self._root, self._names, self._files, self._random = root, names, files, random
        self._ending = threading.Event()
        self.done = 0

    def run(self) -> None:
        """Change one thing every second or so, which is what a reload takes."""
        ways = (self._replace, self._replace, self._damage, self._add_and_take_away)
        while not self._ending.is_set():
            name = str(self._random.choice(self._names))
            ways[self._random.integers(len(ways))](self._root / name)
            self.done += 1
            self._pause()

    def stop(self) -> None:
        """Finish the change under way."""
        self._ending.set()
        self.join()

    def _replace(self, model: Path) -> None:
        put(self._some_file(), model / "1")

    def _damage(self, model: Path) -> None:
        """Put a file there that was cut off, and after a while a whole one again."""
        whole = self._some_file().read_bytes()
        staged = model / "1" / "half"
        staged.write_bytes(whole[: int(len(whole) * self._random.uniform(0.0, 0.99))])
        staged.replace(model / "1" / MODEL_FILE)
        self._pause()
        put(self._some_file(), model / "1")

    def _add_and_take_away(self, model: Path) -> None:
        put(self._some_file(), model / "2")
        self._pause()
        self._pause()
        shutil.rmtree(model / "2")

    def _some_file(self) -> Path:
        return self._files[self._random.integers(len(self._files))]

    def _pause(self) -> None:
        self._ending.wait(self._random.uniform(0.6, 1.6))


def put(file: Path, folder: Path) -> None:
    """Copy beside and rename, as the guide says, so that no half file is seen."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / "staged"
    shutil.copyfile(file, staged)
    os.replace(staged, folder / MODEL_FILE)
