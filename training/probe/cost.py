"""Cost: what a net takes in parameters, arithmetic, memory and time; to stand beside its accuracy.

Parameters and multiply-accumulates say little of time (Ma 2018, ShuffleNet V2, guideline 4:
elementwise operations count), and nothing of memory, where long skips cost most: what crosses must
be kept until the decoder comes to it. So all four are given.
"""

import copy
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from contract.errors import RequestInvalid
from contract.session import usable_cores
from training.bench.machine import describe_machine
from training.bench.measure import Measurement, measure
from training.fit.validation_tiles import memory_of
from training.graph.export import draft_spec
from training.graph.onnx_file import trace, with_spec
from training.nets.cost import macs, parameter_count
from training.probe.probed import Probed, unlike
from training.probe.rows import write_rows
from training.report.figure import COLOURS, canvas, save_figure, style

SIDE_PX = 256
# Beyond it sizes in bytes pass what torch counts in; no machine of today holds such an image.
MOST_SIDE_PX = 32_768
TURNS = 15
MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """One net at one size, one image at a time.

    Attributes:
        net: its name.
        height_px: of the image.
        width_px: of the image.
        parameters: trainable values.
        macs: multiply-accumulates of convolutions and matrix products, at the size that the net
            works at.
        forward_mib: the most memory that activations take at one time in a forward pass in PyTorch,
            2^20 bytes of float32; weights aside.
        training_step_mib: of a forward and backward pass, gradients of the weights included; None
            where a norm has one value per channel and cannot be trained on a single image: one that
            is small, or a net that pools the whole image before a norm.
        file_mib: size of the exported file; None where the architecture is not exported.
        file_ms: median time of the exported file, labels alone.
        file_p95_ms: 95th percentile of it.
        file_peak_mib: the most memory that its process held.
        provider: what the file ran on.
        threads: CPU threads of the file.
        machine: by class.
    """

    net: str
    height_px: int
    width_px: int
    parameters: int
    macs: int
    forward_mib: float
    training_step_mib: float | None
    file_mib: float | None
    file_ms: float | None
    file_p95_ms: float | None
    file_peak_mib: float | None
    provider: str
    threads: int
    machine: str


def probe_cost(
    probed: Probed,
    folder: Path,
    *,
    side_px: int = SIDE_PX,
    turns: int = TURNS,
    threads: int | None = None,
) -> dict[str, float]:
    """Measure one net; see ``compare_cost``. The figures have no name before them."""
    found = compare_cost([probed], folder, side_px=side_px, turns=turns, threads=threads)
    return {key.removeprefix(f"{probed.name}."): value for key, value in found.items()}


def compare_cost(
    nets: Sequence[Probed],
    folder: Path,
    *,
    side_px: int = SIDE_PX,
    turns: int = TURNS,
    threads: int | None = None,
) -> dict[str, float]:
    """Measure nets at one size; their files take turns, so that other load touches all alike.

    Args:
        nets: of which no image is read.
        folder: for ``cost.csv`` and the figure.
        side_px: height and width of the image.
        turns: timed runs of each file.
        threads: CPU threads of the files; None: all usable cores.

    Returns:
        ``<net>.parameters``, ``.macs``, ``.forward_mib``, ``.training_step_mib``, ``.file_mib``,
        ``.file_ms``; those of the file are left out where the architecture is not exported, that of
        the training step where one image cannot make one.

    Raises:
        RequestInvalid: two nets of one name, or a size that this machine cannot hold.
    """
    refused = unlike(nets)
    if refused is not None:
        raise RequestInvalid(refused)
    activations = [_activations(net, side_px) for net in nets]
    with tempfile.TemporaryDirectory(prefix="longskip-cost-") as scratch:
        files = {net.name: _file(net, Path(scratch)) for net in nets}
        sizes = {name: path.stat().st_size / MIB for name, path in files.items() if path}
        there = [path for path in files.values() if path is not None]
        timed = (
            measure(there, side_px=side_px, batch=1, device="cpu", threads=threads, turns=turns)
            if there
            else []
        )
    by_file = {found.file: found for found in timed}
    costs = [
        _cost(
            net,
            side_px,
            held,
            file_mib=sizes.get(net.name),
            timed=by_file.get(_file_name(files[net.name])),
            threads=threads,
        )
        for net, held in zip(nets, activations, strict=True)
    ]
    write_rows(folder / "cost.csv", costs)
    _draw(costs, folder)
    keys = ("parameters", "macs", "forward_mib", "training_step_mib", "file_mib", "file_ms")
    return {
        f"{cost.net}.{key}": float(value)
        for cost in costs
        for key in keys
        if (value := getattr(cost, key)) is not None
    }


def activation_bytes(
    net: nn.Module, *, channels: int, size_hw: tuple[int, int]
) -> tuple[int, int | None]:
    """Return the peak of live tensors of a forward pass, and of a training step, in bytes.

    The second is None where a norm refuses to train on one image of this size.

    Nothing is computed: both passes run on shapes alone. The image and the weights are not
    counted, the weights' gradients are; the memory that kernels take to work in is not seen.

    Args:
        net: takes [1, C, H, W]; left as it is.
        channels: C.
        size_hw: (H, W) in pixels, multiples of the net's divisor.
    """
    shapes = copy.deepcopy(net).to("meta")
    image = torch.empty(1, channels, *size_hw, device="meta")

    def forward() -> None:
        with torch.no_grad():
            shapes.eval()(image)

    def step() -> None:
        logits: Tensor = shapes.train()(image)
        logits.sum().backward()  # type: ignore[no-untyped-call]

    held = _peak_bytes(forward)
    try:
        return held, _peak_bytes(step)
    except ValueError:  # torch's norms: more than one value per channel is needed to train
        return held, None


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations make, from their birth until nothing holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:  # a view, or an operation in place
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _peak_bytes(work: Callable[[], None]) -> int:
    seen = _LiveBytes()
    with seen:
        work()
    return seen.peak


def _cost(
    net: Probed,
    side_px: int,
    activations: tuple[int, int | None],
    *,
    file_mib: float | None,
    timed: Measurement | None,
    threads: int | None,
) -> Cost:
    graph, channels = net.graph, net.description.channels
    size_hw = _size_of_work(net, side_px)
    forward, step = activations
    with _on_cpu(graph.net) as inner:
        counted = macs(inner, channels=channels, size_hw=size_hw)
    return Cost(
        net=net.name,
        height_px=side_px,
        width_px=side_px,
        parameters=parameter_count(graph.net),
        macs=counted,
        forward_mib=forward / MIB,
        training_step_mib=None if step is None else step / MIB,
        file_mib=file_mib,
        file_ms=None if timed is None else timed.median_ms,
        file_p95_ms=None if timed is None else timed.p95_ms,
        file_peak_mib=None if timed is None else timed.peak_memory_mb,
        provider="" if timed is None else timed.provider,
        threads=usable_cores() if threads is None else threads,
        machine=describe_machine(),
    )


def _activations(net: Probed, side_px: int) -> tuple[int, int | None]:
    """Return what ``activation_bytes`` does, of a size that this machine can hold."""
    if side_px > MOST_SIDE_PX:
        raise RequestInvalid(
            f"the image cannot be {side_px} px wide; give a side (--side) of {MOST_SIDE_PX} px or "
            "less"
        )
    channels = net.description.channels
    held = activation_bytes(net.graph.net, channels=channels, size_hw=_size_of_work(net, side_px))
    image_and_labels = side_px**2 * (4 * channels + 8)
    needed, there = held[0] + image_and_labels, memory_of(torch.device("cpu"))
    if needed > there:
        raise RequestInvalid(
            f"{net.name} takes {needed / 2**30:,.1f} GiB for an image of {side_px} x {side_px} px, "
            f"and this machine has {there / 2**30:,.1f}; give a smaller side (--side)"
        )
    return held


def _size_of_work(net: Probed, side_px: int) -> tuple[int, int]:
    """Return (H, W) of what the net itself is given: padded, or the working size."""
    size_hw = net.description.working_size or (side_px, side_px)
    image = torch.empty(1, 1, *size_hw, device="meta")
    padded = net.graph.pad(image)
    return int(padded.shape[2]), int(padded.shape[3])


@contextmanager
def _on_cpu(module: nn.Module) -> Iterator[nn.Module]:
    """Give the module itself where it is on the CPU, else a copy there."""
    on_cpu = next(module.parameters()).device.type == "cpu"
    yield module if on_cpu else copy.deepcopy(module).cpu()


def _file(net: Probed, folder: Path) -> Path | None:
    """Export the net without proving it, to be timed; None where its architecture is not."""
    if net.graph.net.export_refusal is not None:
        return None
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    with _on_cpu(net.graph) as graph:
        traced = trace(graph, channels=net.description.channels)  # type: ignore[arg-type]
        spec = draft_spec("cost", "", net.description, graph)  # type: ignore[arg-type]
    path.write_bytes(with_spec(traced, spec))
    return path


def _file_name(path: Path | None) -> str:
    return "" if path is None else path.name


def _draw(costs: Sequence[Cost], folder: Path) -> None:
    panels = (
        ("Parameters, million", [cost.parameters / 1e6 for cost in costs]),
        ("MACs, billion", [cost.macs / 1e9 for cost in costs]),
        ("Training step, MiB", [cost.training_step_mib or 0.0 for cost in costs]),
        ("Exported file, ms", [cost.file_ms or 0.0 for cost in costs]),
    )
    with style():
        figure, axes = canvas(len(panels), height_in=0.9 + 0.32 * len(costs), sharey=True)
        for place, (panel, (title, values)) in enumerate(zip(axes, panels, strict=True)):
            bars = panel.barh(range(len(costs)), values, color=COLOURS[place], height=0.6)
            panel.bar_label(bars, [f"{v:.3g}" if v else "none" for v in values], padding=3)
            panel.set_title(title, fontsize=8.5)
            panel.set_yticks(range(len(costs)), [cost.net for cost in costs])
            panel.set_ylim(len(costs) - 0.5, -0.5)
            panel.set_xlim(0, 1.35 * max([*values, 1e-9]))
            panel.set_xticks([])
            panel.tick_params(axis="y", length=0)
            panel.grid(visible=False)
            panel.spines["bottom"].set_visible(False)
        side = f"{costs[0].height_px} x {costs[0].width_px} px, one image"
        figure.suptitle(f"Cost at {side}", fontsize=9.5, x=0.01, ha="left", weight="bold")
        save_figure(figure, folder, "cost")
