"""Triton with its Python backend, as PyPI's ``nvidia-pytriton`` carries it.

``with_triton.py MODEL PORT``. PyTriton itself is left out: it would pass each image through one
more process.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytriton

CONFIG = """
name: "segment"
backend: "python"
max_batch_size: 0
input [{ name: "image", data_type: TYPE_STRING, dims: [1] }]
output [{ name: "mask", data_type: TYPE_STRING, dims: [1] }]
instance_group [{ kind: KIND_CPU, count: 1 }]
"""


def main() -> None:
    """Lay out a backend and a repository, and become Triton."""
    here, packages = Path(__file__).parent, Path(pytriton.__file__).parent.parent
    server = packages / "pytriton" / "tritonserver"
    work = Path(tempfile.mkdtemp(prefix="bench-triton-"))
    backend = shutil.copytree(server / "backends" / "python", work / "backends" / "python")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / python / "triton_python_backend_stub"
    shutil.copy2(stub, backend)
    version = work / "models" / "segment" / "1"
    version.mkdir(parents=True)
    shutil.copy2(here / "triton_model.py", version / "model.py")
    shutil.copy2(here / "segment.py", version)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    os.environ["BENCH_MODEL"] = sys.argv[1]
    # The stub takes its packages from the environment of the first Python on the path.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # The stub must meet the library of this Python, not of another with the same minor number.
    libraries = (packages / "nvidia_pytriton.libs", server / "external_libs", server / "lib")
    python_library = sysconfig.get_config_var("LIBDIR")
    os.environ["LD_LIBRARY_PATH"] = ":".join(map(str, (*libraries, python_library)))
    options = ["--http-address=127.0.0.1", f"--http-port={sys.argv[2]}", "--allow-grpc=false"]
    options += ["--allow-metrics=false", f"--model-repository={work / 'models'}"]
    options += [f"--backend-directory={work / 'backends'}", "--log-verbose=0"]
    os.execv(server / "bin" / "tritonserver", ["tritonserver", *options])


if __name__ == "__main__":
    main()
