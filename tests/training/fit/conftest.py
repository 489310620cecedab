import multiprocessing
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Return what starts processes of their own that need not import torch again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.fit.fit", "training.fit.command", "pytest"])
    return context
