"""Answers that were given already, kept in memory for who asks the same again. Off by default."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from imaging.decode import Orientation
from service.engine.encode import AnswerFormat
from service.trace import ModelIdentity

# What an entry costs beside its body: key, dict and object; a rough upper bound.
ENTRY_BYTES = 1_000


@dataclass(frozen=True)
class Question:
    """All that an answer's bytes depend on.

    Attributes:
        image_sha256: of the image's encoded bytes.
        model: its hash, provider and precision among them, so that another file misses by itself.
        answer_format: as asked for.
        orientation: as asked for.
        opacity: as asked for.
        gains: on the long skips; None for a model without a dial.
    """

    image_sha256: bytes
    model: ModelIdentity
    answer_format: AnswerFormat
    orientation: Orientation
    opacity: float
    gains: tuple[float, ...] | None


@dataclass(frozen=True)
class KeptAnswer:
    """An answer's body, and whether it was put together from tiles."""

    body: bytes
    tiled: bool


@dataclass(frozen=True)
class Held:
    """A file's bytes, read already, with their hash."""

    content: bytes
    sha256: bytes

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Hash the bytes; 60 MB take some 40 ms, so not on the loop."""
        return cls(content, hashlib.sha256(content).digest())

    def read(self) -> bytes:
        """Return all bytes."""
        return self.content


class AnswerCache:
    """The answers that were asked for last, up to so many bytes. For the event loop only.

    Attributes:
        max_bytes: of all together; 0 keeps none.
        hits: how often an answer was there.
        misses: how often it was not.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._held_bytes = 0
        self._answers: OrderedDict[Question, KeptAnswer] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes that all answers take."""
        return self._held_bytes

    def get(self, question: Question) -> KeptAnswer | None:
        """Return an answer and count whether there was one."""
        answer = self._answers.get(question)
        if answer is None:
            self.misses += 1
            return None
        self._answers.move_to_end(question)
        self.hits += 1
        return answer

    def put(self, question: Question, answer: KeptAnswer) -> None:
        """Keep an answer, and let those go that were asked longest ago; not one too large alone."""
        needed = len(answer.body) + ENTRY_BYTES
        if needed > self.max_bytes:
            return
        self._let_go(question)
        while self._held_bytes + needed > self.max_bytes:
            self._let_go(next(iter(self._answers)))
        self._answers[question] = answer
        self._held_bytes += needed

    def _let_go(self, question: Question) -> None:
        answer = self._answers.pop(question, None)
        if answer is not None:
            self._held_bytes -= len(answer.body) + ENTRY_BYTES
