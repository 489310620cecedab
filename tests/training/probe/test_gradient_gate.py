"""What skips do to the gradient of a net of 70 convolutions before it learns anything.

The directions of the study's table, with margins of several powers of ten, for each seed by itself:
skips hold the gradient where the initialisation loses it, He's initialisation alone does too, and
batch norm without short skips makes it explode on its way back instead.
"""

from collections.abc import Callable
from functools import cache

import pytest

from training.nets.config import Block, Init, NetConfig, Norm
from training.probe.backward import phantom_batch
from training.probe.gradient_table import GradientRow, gradient_table

SEEDS = (0, 1)


@cache
def measure(norm: Norm, init: Init, block: Block, long_skips: str) -> list[GradientRow]:
    config = NetConfig(
        widths=(8, 8, 8, 8),
        convs_per_block=10,
        block=block,
        norm=norm,
        init=init,
        long_skips=long_skips,
    )
    rows = gradient_table([config], seeds=SEEDS, batch=phantom_batch(count=4, side_px=32))
    assert [row.convs for row in rows] == [70] * len(SEEDS)
    return rows


@pytest.mark.parametrize(
    ("long_skips", "block", "expected"),
    [
        ("concat", "plain", lambda row: row.first_per_last < 1e-4),
        # What the long skips pass by gets nothing at all.
        ("concat", "plain", lambda row: row.centre_per_last < 1e-10),
        ("none", "plain", lambda row: row.first_per_last < 1e-15),
        ("concat", "residual", lambda row: 1e-2 < row.first_per_last < 1e2),
        ("concat", "residual", lambda row: row.centre_per_last > 1e-4),
        ("none", "residual", lambda row: 1e-3 < row.first_per_last < 1e2),
    ],
)
def test_default_init_without_norm_loses_the_gradient_unless_skips_are_short(
    long_skips: str, block: Block, expected: Callable[[GradientRow], bool]
) -> None:
    rows = measure("none", "default", block, long_skips)
    assert all(expected(row) for row in rows), rows


@pytest.mark.parametrize("long_skips", ["concat", "none"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_he_init_alone_holds_the_gradient_without_any_skip(block: Block, long_skips: str) -> None:
    rows = measure("none", "he", block, long_skips)
    assert all(1e-3 < row.first_per_last < 1e3 for row in rows), rows


@pytest.mark.parametrize("long_skips", ["concat", "none"])
def test_batch_norm_makes_the_gradient_explode_unless_skips_are_short(long_skips: str) -> None:
    plain = measure("batch", "he", "plain", long_skips)
    residual = measure("batch", "he", "residual", long_skips)
    assert all(row.first_per_last > 200 for row in plain), plain
    assert all(0.05 < row.first_per_last < 100 for row in residual), residual
    for with_skips, without in zip(residual, plain, strict=True):
        assert without.first_per_last > 30 * with_skips.first_per_last
