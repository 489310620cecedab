import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from contract.errors import RequestInvalid
from training.fit.config import LossConfig
from training.nets.config import NetConfig
from training.probe.directions import filter_normalised, moved
from training.probe.landscape import LinePoint, PlanePoint, compare_landscape, landscapes_of
from training.probe.loss_about import Landscape, convex_share, fixed_batch, headline, look_about
from training.probe.probed import Probed
from training.probe.rows import read_rows

Look = Callable[..., Probed]


def test_each_filter_of_a_direction_is_as_long_as_the_nets_own() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1, bias=True))
    with torch.no_grad():
        net[0].weight[2] = 0.0  # a filter that is dead stays so
    direction = filter_normalised(net, seed=4)
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:
            assert not direction[name].any()
            continue
        own, random = (t.flatten(1).norm(dim=1) for t in (parameter.detach(), direction[name]))
        torch.testing.assert_close(random, own)
    again, other = filter_normalised(net, seed=4), filter_normalised(net, seed=5)
    torch.testing.assert_close(direction["0.weight"], again["0.weight"], rtol=0, atol=0)
    assert not torch.allclose(direction["0.weight"], other["0.weight"])


def test_a_net_of_twice_the_weights_before_its_norm_has_the_same_landscape(look_at: Look) -> None:
    probed = look_at(NetConfig(widths=(4, 6), norm="instance"))
    batch = fixed_batch(probed, crops=2, crop_px=32)
    before = look_about(probed, batch, 5, 1, 1.0, LossConfig())
    with torch.no_grad():
        for name, parameter in probed.graph.net.named_parameters():
            if parameter.ndim == 4 and name.startswith(("encoder", "bottleneck", "decoder")):
                parameter.mul_(2.0)
    after = look_about(probed, batch, 5, 1, 1.0, LossConfig())
    np.testing.assert_allclose(after.plane, before.plane, rtol=2e-3)


def test_the_weights_are_back_to_the_bit_even_after_a_failure() -> None:
    net = nn.Conv2d(2, 3, 3)
    before = net.weight.detach().clone()
    direction = filter_normalised(net, seed=0)
    with moved(net, (0.5, direction), (0.1, direction)):
        torch.testing.assert_close(net.weight.detach(), before + 0.6 * direction["weight"])

    def fails() -> None:
        with moved(net, (0.3, direction)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert torch.equal(net.weight, before)


def bowl(curve_y: float) -> Landscape:
    steps = np.linspace(-1, 1, 9)
    x, y = np.meshgrid(steps, steps)
    lines = np.stack([0.1 + steps**2, 0.1 + 3 * steps**2])
    return Landscape("bowl", steps, lines, 0.1 + x**2 + curve_y * y**2)


def test_a_bowl_is_convex_everywhere_and_a_saddle_nowhere() -> None:
    assert convex_share(bowl(2.0).plane) == 1.0
    assert convex_share(bowl(-0.5).plane) == 0.0
    assert convex_share(bowl(0.0).plane) == 1.0  # a valley, flat along one way
    turned = np.fromfunction(lambda y, x: (x - 4) * (y - 4), (9, 9))
    assert convex_share(turned) == 0.0  # a saddle turned by 45 degrees


def test_rises_are_means_over_lines_and_both_ways() -> None:
    found = headline(bowl(1.0))
    assert found["loss_at_0"] == pytest.approx(0.1)
    assert found["rise_at_0.5"] == pytest.approx((0.25 + 0.75) / 2)
    assert found["rise_at_1"] == pytest.approx((1 + 3) / 2)


def test_nets_are_looked_about_on_the_same_crops(look_at: Look, tmp_path: Path) -> None:
    concat = look_at(name="concat")
    none = look_at(NetConfig(widths=(4, 6, 8), long_skips="none"), name="none")
    (ours,), (theirs,) = (fixed_batch(net, crops=3, crop_px=32) for net in (concat, none))
    assert ours[0].shape == (3, 1, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    state = {name: tensor.clone() for name, tensor in concat.graph.state_dict().items()}
    found = compare_landscape([concat, none], tmp_path, points=5, lines=2, crops=2, crop_px=32)
    after = concat.graph.state_dict()
    assert all(torch.equal(state[name], after[name]) for name in state)  # norms' counts, too
    assert found["none.loss_at_0"] > 0
    rows = list(csv.DictReader((tmp_path / "plane.csv").read_text().splitlines()))
    assert len(rows) == 2 * 25
    (centre,) = (r for r in rows if r["net"] == "concat" and float(r["x"]) == float(r["y"]) == 0)
    assert float(centre["loss"]) == pytest.approx(found["concat.loss_at_0"], rel=1e-5)
    lines = list(csv.DictReader((tmp_path / "lines.csv").read_text().splitlines()))
    along = [float(r["loss"]) for r in lines if (r["net"], r["line"]) == ("concat", "0")]
    across = [float(r["loss"]) for r in rows if r["net"] == "concat" and float(r["y"]) == 0]
    assert along == pytest.approx(across)  # the plane holds the first two lines
    ours, theirs = landscapes_of(
        read_rows(tmp_path / "lines.csv", LinePoint), read_rows(tmp_path / "plane.csv", PlanePoint)
    )
    assert (ours.net, theirs.net) == ("concat", "none")
    assert (ours.lines.shape, ours.plane.shape) == ((2, 5), (5, 5))
    assert headline(theirs)["loss_at_0"] == pytest.approx(found["none.loss_at_0"], rel=1e-5)
    written = {path.name for path in tmp_path.iterdir()}
    for name in ("lines", "contour", "surface"):
        assert {f"landscape-{name}.png", f"landscape-{name}.svg"} <= written


def test_a_net_of_overlapping_classes_has_a_landscape(look_at: Look) -> None:
    probed = look_at(task="multilabel")
    batch = fixed_batch(probed, crops=9, crop_px=999)  # as many and as large as there are
    assert [tuple(part.shape) for part in batch[0]] == [(4, 1, 44, 60), (4, 1, 2), (4, 2, 44, 60)]
    assert np.isfinite(look_about(probed, batch, 5, 1, 0.2, LossConfig()).plane).all()


def test_images_of_a_working_size_are_taken_whole(look_at: Look) -> None:
    probed = look_at()
    description = probed.description.model_copy(update={"working_size": (32, 32)})
    sized = replace(probed, description=description, graph=description.build_graph().eval())
    batch = fixed_batch(sized, crops=2, crop_px=16)
    assert [tuple(image.shape) for image, _, _ in batch] == [(1, 1, 44, 60)] * 2
    assert np.isfinite(look_about(sized, batch, 5, 1, 0.1, LossConfig()).plane).all()


def test_a_grid_without_a_middle_is_refused(look_at: Look, tmp_path: Path) -> None:
    for points in (10, 3, 100_000_001):
        with pytest.raises(RequestInvalid, match=r"--grid.* must be odd.* 5 to 501"):
            compare_landscape([look_at()], tmp_path, points=points)
