"""The version of the code that runs."""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("longskip")
    except PackageNotFoundError:  # run from a checkout or an image without the package's metadata
        return "0+unknown"


VERSION = _installed_version()
