"""Clients that ask in threads, judge every answer, and now and then go before it comes."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from numpy.random import Generator

from benchmarks.soak.cases import Case

Address = tuple[str, int]
Draw = Callable[[Generator], Case]
TIMEOUT_S = 120.0
ABANDONED_SHARE = 0.05


@dataclass
class Tally:
    """What came of all requests.

    Attributes:
        answers: by kind of request and status.
        faults: by kind of request and what was wrong.
        abandoned: requests whose client went.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    abandoned: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def statuses(self) -> Counter[int]:
        """Return how many answers had each status."""
        statuses: Counter[int] = Counter()
        for (_, status), count in self.answers.items():
            statuses[status] += count
        return statuses

    def note(self, case: Case, status: int, fault: str | None) -> None:
        """Add one answer."""
        with self.lock:
            self.answers[case.name, status] += 1
            if fault is not None:
                self.faults[case.name, fault] += 1


class Client(threading.Thread):
    """One client with one connection, as long as the service keeps it."""

    def __init__(
        self, address: Address, draw: Draw, requests: int, tally: Tally, random: Generator
    ) -> None:
        super().__init__(daemon=True)
        self._address, self._draw, self._requests = address, draw, requests
        self._tally, self._random = tally, random

    def run(self) -> None:
        """Ask so many times."""
        connection = self._connect()
        for _ in range(self._requests):
            case = self._draw(self._random)
            if self._random.random() < ABANDONED_SHARE:
                connection.close()
                self._abandon(case)
                continue
            try:
                status = ask(connection, case, self._tally)
            except (OSError, http.client.HTTPException) as error:
                self._tally.note(case, 0, f"no answer: {type(error).__name__}")
                connection.close()
                continue
            if case.announced_bytes is not None:
                connection.close()  # the rest of the body never comes
            if status == http.HTTPStatus.TOO_MANY_REQUESTS:
                time.sleep(0.2)
        connection.close()

    def _abandon(self, case: Case) -> None:
        connection = self._connect()
        try:
            _send(connection, case)
            time.sleep(self._random.uniform(0, 0.03))
        except OSError:
            pass  # the service was quicker
        connection.close()
        with self._tally.lock:
            self._tally.abandoned += 1

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)


def ask(connection: http.client.HTTPConnection, case: Case, tally: Tally) -> int:
    """Send one request, judge its answer and return its status.

    Raises:
        OSError, HTTPException: none came.
    """
    kept = connection.sock is not None
    try:
        _send(connection, case)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException):
        connection.close()
        if not kept:
            raise
        # The service ends a connection that was idle, maybe just now: that is no fault.
        _send(connection, case)
        response = connection.getresponse()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    try:
        fault = case.judge(response.status, headers, body)
    except Exception as error:  # an answer that is not even of its own form
        fault = f"{type(error).__name__} while it was read"
    tally.note(case, response.status, fault)
    return response.status


def _send(connection: http.client.HTTPConnection, case: Case) -> None:
    connection.putrequest(case.method, case.target)
    for name, value in case.headers.items():
        connection.putheader(name, value)
    length = len(case.body) if case.announced_bytes is None else case.announced_bytes
    connection.putheader("Content-Length", str(length))
    connection.endheaders(case.body)
