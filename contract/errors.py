"""Every error that Longskip raises on purpose, in one tree.

    LongskipError                      (imaging/errors.py)
    ├── ImageError                     (imaging/errors.py)  an image that cannot be used
    │   ├── UnsupportedImage           a format or sample type that is not read
    │   ├── BrokenImage                bytes that do not decode
    │   ├── ImageTooLarge              more pixels than the limit, told from the header
    │   └── ChannelMismatch            e.g. 5 channels where the model takes 3
    ├── ModelError                     a model file that cannot be used
    │   ├── SpecMissing                a valid ONNX file without a ModelSpec
    │   ├── SpecInvalid                a ModelSpec that does not validate
    │   ├── SpecTooNew                 written by a newer Longskip
    │   ├── ModelBroken                not an ONNX file, or inputs and outputs off the contract
    │   └── GoldenMismatch             the stored answer did not come back on this provider
    ├── DeviceUnavailable              a GPU was asked for and is not there
    ├── OutOfMemory                    a run needs more memory than the device has now
    ├── RunHalted                      nobody wanted the run's answer any more
    ├── ModelNotFound                  no such model or version in the repository
    ├── RequestInvalid                 a request whose options do not fit
    ├── DataError                      a training data set that would break training
    └── …                              what only a service or a training has: service/errors.py,
                                       training/fit/{checkpoint,run_directory}.py,
                                       training/graph/prove.py, training/demo.py

Each message says what came, what was expected and what to do. The service maps the tree to
HTTP statuses in one place (``service/protocols/problems.py``).
"""

from imaging.errors import (
    BrokenImage,
    ChannelMismatch,
    ImageError,
    ImageTooLarge,
    LongskipError,
    UnsupportedImage,
)

__all__ = [
    "BrokenImage",
    "ChannelMismatch",
    "DataError",
    "DeviceUnavailable",
    "GoldenMismatch",
    "ImageError",
    "ImageTooLarge",
    "LongskipError",
    "ModelBroken",
    "ModelError",
    "ModelNotFound",
    "OutOfMemory",
    "RequestInvalid",
    "RunHalted",
    "SpecInvalid",
    "SpecMissing",
    "SpecTooNew",
    "UnsupportedImage",
]


class ModelError(LongskipError):
    """A model file cannot be used."""


class SpecMissing(ModelError):
    """The ONNX file carries no ModelSpec; ``python -m contract adopt`` gives it one."""


class SpecInvalid(ModelError):
    """The ModelSpec in the file does not validate."""


class SpecTooNew(ModelError):
    """The ModelSpec was written by a newer Longskip than this one."""


class ModelBroken(ModelError):
    """The file is not an ONNX model, or its inputs and outputs are off the contract."""


class GoldenMismatch(ModelError):
    """The golden sample did not come back within its tolerance on this provider."""


class DeviceUnavailable(LongskipError):
    """A device was asked for that onnxruntime cannot use here."""


class OutOfMemory(LongskipError):
    """A run needs more memory than its device has now."""


class RunHalted(LongskipError):
    """A run was ended from outside, because nobody wants its answer any more."""


class ModelNotFound(LongskipError):
    """The repository holds no such model or version."""


class RequestInvalid(LongskipError):
    """The options of a request do not fit the model or each other."""


class DataError(LongskipError):
    """A training data set has faults that would break or silently spoil training."""
