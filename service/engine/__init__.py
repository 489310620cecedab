"""The way of one image: admit, decode, queue, batch, run, encode."""

import os

# From 1.29 on, onnxruntime's official builds send usage events to their maker and keep an id on
# disk. It reads the opt-out once, when it is first imported, so it is set before any of us do.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
