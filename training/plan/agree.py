"""One pace for all processes of a training that torchrun started at once.

Each measures its own steps, all at the same time, so that they share the machine as they will in
training. The slowest counts, because every step waits for it.
"""

import json
import os
from dataclasses import asdict
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from training.plan.rules import Pace

PREFIX = "longskip/pace"
# A process that does not come is a fault of the start; Lightning would wait as long.
TIMEOUT = timedelta(minutes=30)


def agreed(pace: Pace, store: Store, *, rank: int, processes: int) -> Pace:
    """Tell the others this process's pace, and return what all of them can keep.

    Args:
        pace: measured by this process.
        store: that all processes reach.
        rank: of this process.
        processes: how many tell theirs.
    """
    store.set(str(rank), json.dumps(asdict(pace)))
    told = [Pace(**json.loads(store.get(str(other)))) for other in range(processes)]
    return Pace(
        step_s=max(other.step_s for other in told),
        samples=pace.samples,
        validation_s=max(other.validation_s for other in told),
        left_s=min(other.left_s for other in told),
    )


def torchrun_store() -> Store:
    """Return the store of torchrun's agents, on keys of our own."""
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=TIMEOUT,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"{PREFIX}/{attempt}", store)
