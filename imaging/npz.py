"""NumPy's archives of arrays, written quickly and the same at any time."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# Masks shrink as well by zlib's fastest level as by its slowest that anybody waits for.
_LEVEL = 1


def write_npz(
    arrays: Mapping[str, npt.NDArray[Any]], *, deflated: frozenset[str] = frozenset()
) -> bytes:
    """Return an archive that `numpy.load` reads; ``deflated`` names the arrays to compress.

    `numpy.savez_compressed` takes zlib's level 6 for all of them.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: equal arrays give equal bytes
            member.compress_type = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
            file.writestr(member, entry.getbuffer(), compresslevel=_LEVEL)
    return archive.getvalue()
