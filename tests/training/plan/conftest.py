"""Profiles and machines that the plan's tests start from."""

from collections.abc import Callable
from typing import Any

import pytest

from training.data.profile import ClassProfile, DataProfile
from training.plan.machine import Machine

GIB = 1 << 30


def class_profile(**changes: Any) -> ClassProfile:
    fields: dict[str, Any] = {
        "name": "cell",
        "pixel_fraction": 0.15,
        "images": 100,
        "objects_per_image": 20.0,
        "object_area_px": (50.0, 300.0, 900.0),
        "extent": 0.1,
        "width_px": 12.0,
    }
    return ClassProfile(**{**fields, **changes})


@pytest.fixture
def make_class() -> Callable[..., ClassProfile]:
    """Return a maker of classes: round cells unless told otherwise."""
    return class_profile


@pytest.fixture
def make_profile() -> Callable[..., DataProfile]:
    """Return a maker of profiles: 100 grey images of 512 x 640 px full of cells."""

    def make(**changes: Any) -> DataProfile:
        fields: dict[str, Any] = {
            "images": 100,
            "profiled": 100,
            "channels": 1,
            "bits": 8,
            "multilabel": False,
            "height_px": (512.0, 512.0, 512.0),
            "width_px": (640.0, 640.0, 640.0),
            "pixels": 100 * 512 * 640,
            "area_px": (512.0 * 640, 512.0 * 640, 512.0 * 640),
            "odd_fraction": 0.0,
            "oddest_share": 1.0,
            "decoded_bytes": 200 * 512 * 640,
            "intensity_p01_p50_p99": ((0.0, 20.0, 200.0),),
            "lowest": 0.0,
            "classes": (class_profile(),),
            "background_fraction": 0.85,
            "ignored_fraction": 0.0,
            "size_spread": 1.0,
            "brighter_fraction": 1.0,
            "atlas_dice": 0.2,
            "atlas_dice_mirrored": 0.2,
            "atlas_dice_upended": 0.2,
            "neighbour_dice": 0.2,
            "stranger_dice": 0.2,
            "groups": None,
        }
        return DataProfile(**{**fields, **changes})

    return make


@pytest.fixture
def cpu() -> Machine:
    """Return two cores without bfloat16."""
    return Machine(cores=2, memory_bytes=8 * GIB, gpu_memory_bytes=None, bf16=False)


@pytest.fixture
def gpu() -> Machine:
    """Return a machine with a GPU of 16 GiB."""
    return Machine(cores=8, memory_bytes=32 * GIB, gpu_memory_bytes=16 * GIB, bf16=True)
