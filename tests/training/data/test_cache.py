from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.cache import CaseCache
from training.data.folder import open_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    drawn = np.random.default_rng(0)
    for number in range(6):
        size = (40 + number, 50)
        cv2.imwrite(
            str(tmp_path / "images" / f"{number}.png"), drawn.integers(0, 255, size, np.uint8)
        )
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), drawn.integers(0, 2, size, np.uint8))
    return tmp_path


def test_the_cache_never_holds_more_than_its_bound(folder: Path) -> None:
    dataset = open_folder(folder, None, progress=False)

    def cache(max_bytes: int) -> CaseCache:
        return CaseCache(dataset.cases, dataset.spec, dataset.channels, max_bytes=max_bytes)

    sizes = [cache(0)[index].size_bytes for index in range(6)]
    bound = sizes[0] + sizes[1] + sizes[2] // 2
    bounded = cache(bound)
    for _ in range(2):
        for index in range(6):
            loaded = bounded[index]
            assert bounded.held_bytes <= bound
            assert loaded.image_hwc.shape[0] == 40 + index
    assert bounded.held_bytes == sizes[0] + sizes[1]
    # What is held is given again; what is not is read again, and is the same.
    assert bounded[0] is bounded[0]
    assert bounded[5] is not bounded[5]
    np.testing.assert_array_equal(bounded[5].image_hwc, bounded[5].image_hwc)
    assert cache(sum(sizes))[3].size_bytes == sizes[3]


def test_nothing_is_held_without_memory_for_it(folder: Path) -> None:
    dataset = open_folder(folder, None, progress=False)
    cache = CaseCache(dataset.cases, dataset.spec, dataset.channels, max_bytes=0)
    assert cache[0] is not cache[0]
    assert cache.held_bytes == 0
