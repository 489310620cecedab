"""What cases, folders and commands are called on a page: a stem may be a patient's name."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

CaseName = Callable[[str], str]


def own_names(stem: str) -> str:
    """Return the stem itself."""
    return stem


def numbers(stems: Iterable[str]) -> CaseName:
    """Return names such as ``case 7`` by the place among ``stems``.

    Stems are numbered in the order of the split, which is that of file names, so whoever has the
    run finds the image again.
    """
    places = {stem: number for number, stem in enumerate(stems, start=1)}
    return lambda stem: f"case {places[stem]}"


def without_passwords(text: str) -> str:
    """Return ``text`` with user and password taken out of any address, such as a tracker's."""
    return re.sub(r"://[^/\s@]+@", "://HIDDEN@", text)


def without_paths(words: Sequence[str], secrets: Iterable[str]) -> list[str]:
    """Return a command's words with paths left out.

    Args:
        words: of the command.
        secrets: names that must not stand in any word: of the data set and of the run.
    """
    hidden = [name for name in secrets if name]
    return [_without_path(word, hidden) for word in words]


def _without_path(word: str, secrets: Sequence[str]) -> str:
    option, mark, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if any(secret in value for secret in secrets) or PurePath(value).is_absolute():
        return f"{option}{mark}PATH"
    return word
