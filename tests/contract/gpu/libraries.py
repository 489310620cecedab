"""Stand-ins for the libraries that only a machine with an NVIDIA driver has.

onnxruntime's GPU providers do not load without the driver's ``libcuda`` and TensorRT's libraries.
With these in their place the real providers load, read their options, ask for a GPU, and fail:
their own words then tell whether they took the options. No GPU is imitated.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from contract.session import CUDA_PROVIDER, TENSORRT_PROVIDER

# It says that there is one GPU, so that our own question to the driver passes.
DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuTensorMapEncodeTiled(void) { return 801; }
"""
TENSORRT = """
static void *nothing(void) { return 0; }
static void *methods[64];
static struct { void **methods; } object = {methods};
__attribute__((constructor)) static void fill(void) {
    for (int i = 0; i < 64; i++) methods[i] = (void *)nothing;
}
void *createInferRuntime_INTERNAL(void *logger, int version) { return &object; }
void *createInferBuilder_INTERNAL(void *logger, int version) { return &object; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return &object; }
void *getPluginRegistry(void) { return &object; }
int getInferLibVersion(void) { return 101301; }
"""
PARSER = """
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int v) { return 0; }
"""
SOURCES = {
    "libcuda.so.1": DRIVER,
    "libnvinfer.so.10": TENSORRT,
    "libnvonnxparser.so.10": PARSER,
}


def build(folder: Path) -> Path:
    """Compile the stand-ins into a folder, or skip the test where that cannot be."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("there is no C compiler, or no Linux")
    if not {CUDA_PROVIDER, TENSORRT_PROVIDER} <= set(ort.get_available_providers()):
        pytest.skip("this onnxruntime was built without GPUs")
    for name, source in SOURCES.items():
        command = [compiler, "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{name}"]
        subprocess.run([*command, "-o", folder / name], input=source, text=True, check=True)
    return folder


def run_python(libraries: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that finds the stand-ins; its standard error is not told."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).resolve().parents[3],
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
