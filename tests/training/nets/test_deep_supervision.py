import pytest
import torch
from torch import Tensor

from contract.errors import RequestInvalid
from training.nets.build import build_net
from training.nets.config import NetConfig
from training.nets.deep_supervision import DeepSupervision, coarse

IGNORE = 255


def test_a_coarse_mask_takes_the_middle_of_each_square_and_ignores_the_padding() -> None:
    mask = torch.arange(30, dtype=torch.uint8).reshape(1, 5, 6)
    assert coarse(mask, 2, (4, 4), IGNORE).tolist() == [
        [[7, 9, 11, 255], [19, 21, 23, 255], [255] * 4, [255] * 4]
    ]
    assert torch.equal(coarse(mask, 1, (5, 6), IGNORE), mask)


@pytest.mark.parametrize(
    "config",
    [
        NetConfig(widths=(4, 6, 8, 10)),
        NetConfig(widths=(4, 6, 8, 10), long_skips="none"),
        NetConfig(architecture="smp-unet", widths=(4, 6, 8)),
    ],
    ids=["unet", "unet without skips", "smp-unet"],
)
def test_each_level_answers_at_its_own_size_and_weighs_half_of_the_one_before(
    config: NetConfig,
) -> None:
    torch.manual_seed(0)
    net = build_net(config, channels=1, classes=3)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    deep = DeepSupervision(net, classes=3, ignore=IGNORE)
    image, mask = torch.randn(2, 1, 32, 64), torch.randint(0, 3, (2, 32, 64))
    sizes: list[tuple[int, ...]] = []

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        assert logits.shape[2:] == target.shape[1:]
        sizes.append(tuple(logits.shape))
        return logits.square().mean() * 0 + float(logits.shape[3])

    with deep.watching(net) as seen:
        logits = net(image)
    total = deep.loss(loss, logits, mask, seen)
    assert sizes == [(2, 3, 32, 64), (2, 3, 16, 32), (2, 3, 8, 16)]
    assert total.item() == pytest.approx((64 + 32 / 2 + 16 / 4) / 1.75)
    assert net.state_dict().keys() == before.keys()
    assert not any(module._forward_hooks for module in net.modules())


def test_coarse_levels_learn() -> None:
    torch.manual_seed(0)
    net = build_net(NetConfig(widths=(4, 6, 8)), channels=1, classes=2)
    deep = DeepSupervision(net, classes=2, ignore=IGNORE)
    with deep.watching(net) as seen:
        logits = net(torch.randn(1, 1, 16, 16))
    only_coarse = deep.loss(
        lambda answer, _: answer.square().mean() * float(answer.shape[3] < 16),
        logits,
        torch.zeros(1, 16, 16, dtype=torch.uint8),
        seen,
    )
    inside = list(net.get_submodule("bottleneck").parameters())
    parameters = [deep.get_parameter("heads.0.weight"), net.get_parameter("head.weight"), *inside]
    of_coarse_head, of_head, *of_bottleneck = torch.autograd.grad(
        only_coarse, parameters, allow_unused=True
    )
    assert of_coarse_head is not None
    assert of_coarse_head.any()
    assert of_head is None or not of_head.any()
    assert any(gradient is not None and gradient.any() for gradient in of_bottleneck)


def test_what_it_cannot_supervise_is_refused() -> None:
    flat = build_net(NetConfig(widths=(4, 6)), channels=1, classes=2)
    with pytest.raises(RequestInvalid, match="two levels or more"):
        DeepSupervision(flat, classes=2, ignore=IGNORE)
    other = build_net(NetConfig(architecture="fpn"), channels=3, classes=2)
    with pytest.raises(RequestInvalid, match="decoder of levels"):
        DeepSupervision(other, classes=2, ignore=IGNORE)
