import subprocess
import sys

import pytest

from contract.spec import Tiles

PROGRAM = """
import sys
import numpy as np
from contract.model import Model
def peak_kb():
    # Not ru_maxrss, which a child inherits from the process that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
model = Model.open(sys.argv[1], device="cpu", threads=1)
image = np.full((1, 10_000, 4_000), 10, np.float32)
image[0, 5_000:] = 200
before = peak_kb()
segmentation = model.segment(image)
after = peak_kb()
assert segmentation.tiled and segmentation.labels.shape == (10_000, 4_000)
assert 0.49 < segmentation.labels.mean() < 0.51
print(after - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_forty_megapixels_take_memory_for_a_band(tmp_path, build_threshold_model, repository_root):
    path = build_threshold_model(
        tmp_path / "model.onnx", tiles=Tiles(patch=(512, 512), overlap=0.0)
    )
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    grown_mb = int(finished.stdout) / 1024
    # 38 MB of labels, 16 MB of band, one tile's work; all probabilities would be 305 MB.
    assert 38 < grown_mb < 200
