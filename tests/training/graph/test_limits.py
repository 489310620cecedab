from collections.abc import Callable

from training.graph.assemble import ModelGraph
from training.graph.limits import activation_bytes_per_pixel, tiles_for, whole_image_limit


def test_wider_nets_take_smaller_images_whole(small_graph: Callable[..., ModelGraph]) -> None:
    narrow, wide = small_graph(widths=(8, 16)), small_graph(widths=(64, 128))
    assert activation_bytes_per_pixel(wide, channels=1) > 4 * activation_bytes_per_pixel(
        narrow, channels=1
    )
    assert whole_image_limit(wide, channels=1) < whole_image_limit(narrow, channels=1)


def test_the_estimate_counts_what_is_alive_at_the_finest_level(
    small_graph: Callable[..., ModelGraph],
) -> None:
    """Widths 8 and 16: the finest level holds 8 + 8 channels beside the concatenated 16."""
    per_pixel = activation_bytes_per_pixel(small_graph(widths=(8, 16)), channels=1)
    assert 4 * 24 <= per_pixel <= 4 * 60


def test_tiles_fit_the_divisor_and_a_working_size_has_none(
    small_graph: Callable[..., ModelGraph],
) -> None:
    tiles = tiles_for(small_graph(widths=(4, 4, 4, 4)), tileable=True)
    assert tiles is not None
    assert tiles.patch[0] % 8 == 0
    assert tiles_for(small_graph(), tileable=False) is None
    assert tiles_for(small_graph(working_size=(32, 32)), tileable=True) is None
