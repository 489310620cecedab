import io
import zipfile

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imaging.npz import write_npz

arrays_by_name = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=8),
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint32, np.float32, np.dtype("<U5")]),
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=9),
    ),
    max_size=4,
)


@given(arrays_by_name, st.booleans())
def test_numpy_reads_what_was_written(arrays, deflate):
    encoded = write_npz(arrays, deflated=tuple(arrays) if deflate else ())
    with zipfile.ZipFile(io.BytesIO(encoded)) as archive:
        assert archive.testzip() is None  # names, sizes and sums of both headers agree
    with np.load(io.BytesIO(encoded)) as read:
        assert read.files == list(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_runs_are_deflated_where_asked_and_equal_arrays_have_equal_bytes():
    zeros = {"a": np.zeros((1000, 1000), np.uint8)}
    assert len(write_npz(zeros)) > 1_000_000
    assert len(write_npz(zeros, deflated=("a",))) < 10_000
    assert write_npz(zeros) == write_npz(zeros)
