"""Where a session's nodes really run: a GPU that is used for the cheap ones only is not used."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

# These hold the weights and nearly all the work. onnxruntime puts what computes shapes (Shape,
# Gather, Concat, … on a handful of integers) on the CPU by itself, and that is well.
HEAVY = frozenset(
    {
        *("Conv", "ConvInteger", "ConvTranspose", "FusedConv", "NhwcFusedConv", "QLinearConv"),
        *("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"),
    }
)


class Node(Protocol):
    """A node of the graph, as onnxruntime tells it."""

    @property
    def op_type(self) -> str:
        """Such as ``Conv``."""


class Subgraph(Protocol):
    """Nodes that went to one provider together."""

    @property
    def ep_name(self) -> str:
        """The provider."""

    def get_nodes(self) -> Sequence[Node]:
        """Return the nodes."""


def heavy_on(provider: str, assigned: Iterable[Subgraph]) -> Counter[str]:
    """Count the heavy nodes that run on a provider, by kind.

    Args:
        provider: its name.
        assigned: of a session that was opened with ``session.record_ep_graph_assignment_info``,
            what its ``get_provider_graph_assignment_info()`` returns.
    """
    return Counter(
        node.op_type
        for subgraph in assigned
        if subgraph.ep_name == provider
        for node in subgraph.get_nodes()
        if node.op_type in HEAVY
    )


def left_wholly(provider: str, other: str, assigned: Sequence[Subgraph]) -> Counter[str]:
    """Count the heavy nodes that another provider runs, if this one runs none of them.

    Args:
        provider: that should run them.
        other: to which they may be left.
        assigned: as for ``heavy_on``.
    """
    return Counter() if heavy_on(provider, assigned) else heavy_on(other, assigned)
