"""Fit the one number of temperature scaling (Guo 2017, section 4.2) on held-out pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from contract.decision import Task
from contract.errors import DataError
from training.calibrate.observe import Observed

# Beyond these a net is broken rather than badly calibrated.
COLDEST, HOTTEST = 0.05, 20.0
# One number needs no more; the fit over this many takes seconds.
FIT_PIXELS = 1 << 20


def fit_temperature(observed: Sequence[Observed], task: Task) -> float:
    """Return the T that minimises the mean negative log-likelihood of softmax(logits / T).

    It is convex in 1 / T, so the search has one minimum to find. Every image weighs by its pixels.

    Raises:
        DataError: no pixel counts.
    """
    logits, truth = _pool(observed, task)
    if not truth.size:
        raise DataError(
            "there is no labelled pixel to fit a temperature on; every validation mask is ignored "
            "throughout. Leave temperature out of --tune"
        )

    def nll(inverse: float) -> float:
        scaled = logits * inverse
        if task == "multilabel":  # logits have the sign of the truth
            return float(np.logaddexp(0.0, -scaled).mean())
        top = scaled.max(axis=0)
        log_sum = top + np.log(np.exp(scaled - top).sum(axis=0))
        return float((log_sum - scaled[truth, np.arange(truth.size)]).mean())

    found = minimize_scalar(
        nll, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-5}
    )
    return round(float(1 / found.x), 4)


def _pool(observed: Sequence[Observed], task: Task) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return counted logits and truth; multilabel: logits ``[m]`` turned towards the truth."""
    total = sum(int(one.counted.sum()) for one in observed)
    step = max(1, total // FIT_PIXELS)
    if task == "multilabel":
        towards = [
            np.where(one.truth > 0, one.logits, -one.logits)[one.counted] for one in observed
        ]
        flat = np.concatenate([*towards, np.empty(0)])[::step].astype(np.float64)
        return flat, np.zeros(flat.size, dtype=np.intp)
    logits = np.concatenate([one.logits[:, one.counted] for one in observed], axis=1)[:, ::step]
    truth = np.concatenate([one.truth[one.counted] for one in observed])[::step]
    return logits.astype(np.float64), truth.astype(np.intp)
