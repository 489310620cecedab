"""What every peer does with an image: PNG bytes in, bytes of a mask as PNG out.

It stands alone, because each peer runs in an environment of its own. The session has the options
that the service's own has (contract/session.py), so that only the serving around it differs.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

CONTENT_TYPE = "image/png"


def open_session(model: Path) -> ort.InferenceSession:
    """Open the model file on the CPU."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def segment(session: ort.InferenceSession, png: bytes) -> bytes:
    """Return the label PNG ``[H, W]`` of an 8-bit RGB image."""
    bgr_hwc = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if bgr_hwc is None:
        raise ValueError("the body is no image")
    image_nchw = np.ascontiguousarray(bgr_hwc[:, :, ::-1].transpose(2, 0, 1), np.float32)[None]
    (labels_nhw,) = session.run(["labels"], {"image": image_nchw})
    _, mask = cv2.imencode(".png", labels_nhw[0])
    return mask.tobytes()
