"""Running a model on an NVIDIA GPU: by CUDA, by CUDA graphs, by TensorRT."""
