import pytest
import torch
from torch import nn

from training.graph.norms import SpelledOutNorm, spell_out_norms


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 6),
        nn.GroupNorm(6, 6),
        nn.InstanceNorm2d(6, affine=True),
        nn.InstanceNorm2d(6),
    ],
    ids=["groups of 3", "groups of 1", "instance", "instance without weights"],
)
def test_the_formula_gives_what_pytorch_gives(norm: nn.GroupNorm | nn.InstanceNorm2d) -> None:
    torch.manual_seed(0)
    if norm.weight is not None:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 13, 29) * 5 + 100
    torch.testing.assert_close(SpelledOutNorm(norm)(x), norm(x), atol=2e-4, rtol=1e-4)


def test_only_norms_over_the_image_are_replaced_and_the_net_is_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.GroupNorm(2, 4)))
    copied = spell_out_norms(net)
    assert isinstance(copied[1], nn.BatchNorm2d)  # type: ignore[index]
    assert isinstance(copied[2][0], SpelledOutNorm)  # type: ignore[index]
    assert isinstance(net[2][0], nn.GroupNorm)  # type: ignore[index]
