"""What a model file promises, and how it is opened, run, tiled and scored."""

import os

# From 1.29 on, onnxruntime's official builds send usage events to their maker and keep an id on
# disk. It reads the opt-out once, when it is first imported, and all rooms reach it through here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
