"""Checkpoint -> one self-contained ONNX file, one module per stage."""
