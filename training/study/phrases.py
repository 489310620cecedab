"""Figures and names as they stand in a study's sentences and tables."""

from collections.abc import Iterable

from training.report.wording import metric_label

MINUS = "\N{MINUS SIGN}"
IMAGE_METRICS = {"loss_nats": "cross-entropy in nats", "error": "share of wrong pixels"}


def metric_name(metric: str, length_unit: str) -> str:
    """Return a metric's name within a sentence, with the unit of lengths."""
    return IMAGE_METRICS.get(metric) or metric_label(metric, length_unit).split(" (")[0]


def p_text(p: float) -> str:
    """Return ``p = 0.03``; what a permutation test cannot resolve further is said as below."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def least_p_text(p: float) -> str:
    """Return the smallest p that a test can give, such as ``0.125``; not rounded to less digits."""
    return f"{p:.3g}"


def quoted(name: str) -> str:
    """Return an arm's name as it stands in a sentence, where ``all`` would be read as a word."""
    return f"“{name}”"


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign; none where it rounds to nothing."""
    text = amount(abs(value), metric)
    return text if not text.strip("0.") else f"{MINUS if value < 0 else '+'}{text}"


def amount(value: float, metric: str) -> str:
    """Return a value with the digits of its metric."""
    return f"{value:.{digits_of(metric)}f}"


def digits_of(metric: str) -> int:
    """Return digits after the point: of shares three, of lengths one, of errors four."""
    if metric in ("hd95", "assd"):
        return 1
    return 4 if metric in IMAGE_METRICS else 3


def count(n: int, noun: str) -> str:
    """Return e.g. ``1 run`` or ``3 runs``."""
    if noun == "image or group":
        return f"{n} groups of images" if n != 1 else "1 group of images"
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(items: Iterable[str]) -> str:
    """Return e.g. ``a, b and c``."""
    names = list(items)
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def capital(text: str) -> str:
    """Return text as a sentence begins."""
    return text[:1].upper() + text[1:]
