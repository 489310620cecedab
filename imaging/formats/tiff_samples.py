"""From a TIFF's stored samples to the three sample types that Longskip works with."""

from typing import Any

import numpy as np
import numpy.typing as npt

from imaging.errors import BrokenImage, UnsupportedImage


def as_intensities(
    stored_hwc: npt.NDArray[Any],
    *,
    bits: int,
    white_is_zero: bool = False,
    colours: npt.NDArray[np.uint16] | None = None,
) -> npt.NDArray[np.generic]:
    """Return uint8, uint16 or float32 intensities in which larger means brighter.

    * 1 to 8 bits: uint8, fewer than 8 scaled to 0..255, as PNG does.
    * 9 to 16 bits: uint16 with the stored values (a 12-bit image keeps 0..4095).
    * signed and wider integers: float32 where each value is exact in it.
    * floats: float32; 64-bit ones are rounded.

    Args:
        stored_hwc: ``[H, W, C]`` as tifffile gives it; bool for 1 bit.
        bits: Bits of one stored sample.
        white_is_zero: MINISWHITE: unsigned samples are inverted; others have no largest value
            to invert at and stay.
        colours: ``[3, 2**bits]`` colour table of a palette image, 16 bits per entry; the result
            is RGB uint8.

    Raises:
        BrokenImage: NaN or infinity, or a value past float32's range.
        UnsupportedImage: Integers that float32 cannot hold exactly; a palette without table.
    """
    if colours is not None:
        return _looked_up(stored_hwc, colours)
    kind = stored_hwc.dtype.kind
    if kind == "f":
        return _finite_float32(stored_hwc)
    if kind == "b" or (kind == "u" and bits <= 16):
        return _unsigned(stored_hwc, bits, white_is_zero)
    return _exact_float32(stored_hwc)


def _unsigned(
    stored_hwc: npt.NDArray[Any], bits: int, white_is_zero: bool
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    largest = 2**bits - 1
    values = stored_hwc.astype(np.uint16, copy=False)
    if white_is_zero:
        values = np.uint16(largest) - values
    if bits > 8:
        return values
    if bits < 8:
        # round(value * 255 / largest), exact for 1, 2 and 4 bits
        values = (values * np.uint16(255) + np.uint16(largest // 2)) // np.uint16(largest)
    return values.astype(np.uint8)


def _looked_up(
    index_hwc: npt.NDArray[Any], colours: npt.NDArray[np.uint16]
) -> npt.NDArray[np.uint8]:
    if index_hwc.shape[2] != 1 or colours.ndim != 2 or colours.shape[0] != 3:
        raise UnsupportedImage(
            f"the TIFF has a palette and {index_hwc.shape[2]} samples per pixel; one is read: "
            "save it as RGB"
        )
    index_hw = index_hwc[:, :, 0].astype(np.intp)
    if int(index_hw.max()) >= colours.shape[1]:
        raise BrokenImage(
            f"the TIFF has palette index {int(index_hw.max())}, its palette {colours.shape[1]} "
            "colours: write the file again"
        )
    # Some writers leave 8-bit numbers in the 16-bit table (libtiff's checkcmap guards alike).
    table = colours >> 8 if int(colours.max()) > 255 else colours
    return np.ascontiguousarray(table.T.astype(np.uint8)[index_hw])


def _finite_float32(stored_hwc: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = stored_hwc.astype(np.float32, copy=False)
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise BrokenImage(
            f"{bad:,} of the TIFF's {values.size:,} samples are NaN, infinite or past float32: "
            "replace them by a number (for CT outside the scan: the air value) and save again"
        )
    return values


def _exact_float32(stored_hwc: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    values = stored_hwc.astype(np.float32)
    # Compared in float64, which holds every 32-bit integer; wider ones are refused where large.
    if np.any(values.astype(np.float64) != stored_hwc.astype(np.float64)) or (
        stored_hwc.dtype.itemsize > 4 and np.any(np.abs(values) > 2.0**53)
    ):
        raise UnsupportedImage(
            f"the TIFF's {stored_hwc.dtype} samples reach {int(np.abs(values).max()):,} and are "
            "not exact in float32: save them as 16-bit integers or as float32"
        )
    return values
