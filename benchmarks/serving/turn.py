"""One round: the raw loop, then every server started, asked and stopped, one after the other."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import OtherLoad
from benchmarks.serving.servers import LONGSKIP, SERVERS, Running, started
from benchmarks.serving.visit import (
    WARM_UP_S,
    Fresh,
    Window,
    fresh,
    health_ms,
    window,
)
from contract.model import Model
from imaging.channels import match_channels, to_chw_float32
from imaging.decode import DEFAULT_MAX_PIXELS, decode_image
from imaging.label_png import read_mask


@dataclass(frozen=True)
class Task:
    """A model file, and the image that it is asked for.

    Attributes:
        model: opened, for the raw loop and the labels to expect.
        png: bytes of the image.
    """

    model: Model
    png: bytes

    @property
    def image_nchw(self) -> NDArray[np.float32]:
        """The decoded image, ``[1, C, H, W]``."""
        pixels_hwc = decode_image(self.png, max_pixels=DEFAULT_MAX_PIXELS).pixels_hwc
        return to_chw_float32(match_channels(pixels_hwc, self.model.spec.channels))[None]

    def labels_hw(self) -> NDArray[np.uint8]:
        """Return what every server has to answer."""
        labels: NDArray[np.uint8] = self.model.session.run(["labels"], {"image": self.image_nchw})[
            0
        ][0]
        return labels


@dataclass(frozen=True)
class Turn:
    """What was measured of one server in one round.

    Attributes:
        alike: its masks had the expected labels.
        ready_s: from its start to its first answer of an image.
        idle_mb: memory of all its processes after that.
        one: a single client.
        eight: eight clients.
        tiny_one: the same with the tiny model.
        tiny_eight: the same with the tiny model.
        health_ms: of its health address while 64 clients post.
        fresh: a request after 40 abandoned ones.
        busy_mb: memory after all that.
    """

    alike: bool
    ready_s: float
    idle_mb: float
    one: Window
    eight: Window
    tiny_one: Window
    tiny_eight: Window
    health_ms: tuple[float, ...]
    fresh: Fresh
    busy_mb: float


@dataclass(frozen=True)
class Round:
    """All turns of one round.

    Attributes:
        raw: the raw loop on the model.
        turns: by server's name.
        auto: the service left to choose its precision, eight clients; None where it has no turn.
        others: share of the cores that other work took during the raw loop.
    """

    raw: Window
    turns: Mapping[str, Turn]
    auto: Window | None
    others: float


def take_round(
    pythons: Mapping[str, Path], nuclei: Task, tiny: Task, work: Path, *, seconds: float
) -> Round:
    """Give every server its turn.

    Args:
        pythons: of each server's environment, by the server's name.
        nuclei: a real U-Net.
        tiny: the model that does next to nothing.
        work: folder for logs.
        seconds: length of each stretch of load.
    """
    load = OtherLoad()
    raw = raw_window(nuclei, seconds)
    others = load.share()
    _say("raw loop", raw, raw)
    turns = {}
    for name, python in pythons.items():
        turns[name] = turn = _take_turn(name, python, nuclei, tiny, work, seconds)
        _say(name, turn.one, turn.eight)
    auto = None
    if LONGSKIP.name in pythons:
        with started(
            *(LONGSKIP, pythons[LONGSKIP.name], nuclei.model.path, nuclei.png, work),
            settings={"PRECISION": "auto"},
        ) as running:
            auto = window(running, nuclei.png, work, clients=8, seconds=seconds)
    return Round(raw, turns, auto, others)


def raw_window(task: Task, seconds: float) -> Window:
    """Run the model in a loop, as little around it as can be."""
    run, feed = task.model.session.run, {"image": task.image_nchw}
    until_s = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until_s:
        run(["labels"], feed)
    latencies_ms = []
    began_s = ended_s = time.perf_counter()
    while ended_s - began_s < seconds:
        before_s = ended_s
        run(["labels"], feed)
        ended_s = time.perf_counter()
        latencies_ms.append(1e3 * (ended_s - before_s))
    return Window(len(latencies_ms) / (ended_s - began_s), tuple(latencies_ms))


def _take_turn(
    name: str, python: Path, nuclei: Task, tiny: Task, work: Path, seconds: float
) -> Turn:
    server = SERVERS[name]
    with started(server, python, tiny.model.path, tiny.png, work) as running:
        alike = _answers_alike(running, tiny)
        tiny_one, tiny_eight = _one_and_eight(running, tiny, work, seconds)
    with started(server, python, nuclei.model.path, nuclei.png, work) as running:
        alike &= _answers_alike(running, nuclei)
        idle_mb = running.memory_mb()
        one, eight = _one_and_eight(running, nuclei, work, seconds)
        return Turn(
            alike=alike,
            ready_s=running.ready_s,
            idle_mb=idle_mb,
            one=one,
            eight=eight,
            tiny_one=tiny_one,
            tiny_eight=tiny_eight,
            health_ms=health_ms(running, nuclei.png, work, seconds=seconds),
            fresh=fresh(running, nuclei.png),
            busy_mb=running.memory_mb(),
        )


def _answers_alike(running: Running, task: Task) -> bool:
    """Ask for two answers and compare them with the raw run's labels."""
    labels_hw = task.labels_hw()
    return all(np.array_equal(read_mask(running.ask(task.png)), labels_hw) for _ in range(2))


def _one_and_eight(
    running: Running, task: Task, work: Path, seconds: float
) -> tuple[Window, Window]:
    one, eight = (
        window(running, task.png, work, clients=clients, seconds=seconds) for clients in (1, 8)
    )
    return one, eight


def _say(name: str, one: Window, eight: Window) -> None:
    print(
        f"  {name:<9} c=1 p50 {one.quantile_ms(0.5):6.1f} ms   c=8 {eight.answers_per_s:6.2f}/s",
        flush=True,
    )
