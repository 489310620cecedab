"""When to ask again."""

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from secrets import token_hex

import httpx

from service.client.request import Request

AGAIN = (429, 503)
# A connection that breaks; not an answer that takes too long, which would do so again.
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 20.0


@dataclass(frozen=True)
class Patience:
    """How often a client asks.

    Attributes:
        attempts: how often a request is sent in all.
        deadline_s: from its first attempt, after which it is not sent again.
    """

    attempts: int
    deadline_s: float

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {self.attempts}")


class Attempts:
    """The attempts of one request, from now on.

    Attributes:
        request: to be sent each time. All have one id: by it, an alias with a weight takes all of
            them or none.
    """

    def __init__(self, request: Request, patience: Patience) -> None:
        headers = {"X-Longskip-Request-Id": token_hex(8), **request.get("headers", {})}
        self.request: Request = {**request, "headers": headers}
        self._patience = patience
        self._made = 0
        self._began_s = time.monotonic()

    def wait_s(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Return how long to wait after one before the next; None: there is no next one.

        Args:
            outcome: the response, or how the connection broke.
        """
        self._made += 1
        # Doubled each time, and not the same for all clients that were turned away together.
        doubled_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self._made - 1))
        wait_s = doubled_s * random.uniform(0.5, 1.0)
        if isinstance(outcome, httpx.Response):
            named_s = _named_wait_s(outcome.headers.get("retry-after", ""))
            # A 503 that names no time is a model that is out of use: waiting does not help.
            if outcome.status_code not in AGAIN or named_s is None:
                return None
            wait_s = max(wait_s, named_s)
        elif not isinstance(outcome, BROKEN):
            return None
        in_time = time.monotonic() - self._began_s + wait_s <= self._patience.deadline_s
        return wait_s if self._made < self._patience.attempts and in_time else None


def _named_wait_s(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After header; proxies write a date (RFC 9110, 10.2.3)."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())
