"""The service of docker-compose.yml's profile cpu, up for as long as a test needs it."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from engine import Engine

PROJECT = "longskip-docker-test"
SERVICE = "cpu"
LISTS = {
    "container": ("ps", "--all"),
    "network": ("network", "ls"),
    "volume": ("volume", "ls"),
}


class NotHealthy(Exception):
    """The container did not become healthy; the message holds what it said."""


class Composed:
    """A context: up when it begins, down with all that compose made when it ends.

    Attributes:
        port: where the service is published on 127.0.0.1, a free one.
    """

    def __init__(self, engine: Engine, models: Path) -> None:
        self.engine = engine
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._environment = os.environ | {
            "LONGSKIP_PUBLISH": f"127.0.0.1:{self.port}",
            "LONGSKIP_MODELS": str(models.resolve()),
        }
        self._container = ""

    def __enter__(self) -> Self:
        try:
            self.compose("up", "--detach", "--no-build", SERVICE)
            self._container = self.compose("ps", "--quiet", SERVICE).strip()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.compose("down", "--volumes", "--timeout", "5")

    def compose(self, *words: str) -> str:
        """Run compose on the repository's file and return what it printed."""
        whole = [*self.engine.compose, "--project-name", PROJECT, "--profile", SERVICE, *words]
        done = subprocess.run(
            whole, env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    def state(self, template: str) -> Any:
        """Return a part of what ``docker inspect`` knows of the container."""
        template = f"{{{{json {template}}}}}"
        return json.loads(self.engine.docker("inspect", "--format", template, self._container))

    def python(self, code: str) -> str:
        """Run Python code inside the container and return what it printed."""
        return self.engine.docker("exec", self._container, "python", "-c", code)

    def log(self) -> str:
        """Return what the container has said."""
        words = [self.engine.client, "logs", self._container]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout

    def wait_until_healthy(self, within_s: float) -> float:
        """Wait until the HEALTHCHECK says so, and return the seconds it took.

        Raises:
            NotHealthy: it stopped, or was not in time.
        """
        began_s = time.monotonic()
        while (health := self.state(".State.Health.Status")) != "healthy":
            took_s = time.monotonic() - began_s
            if health == "unhealthy" or took_s > within_s or not self.state(".State.Running"):
                raise NotHealthy(f"{health} after {took_s:.0f} s; it said:\n{self.log()}")
            time.sleep(0.5)
        return time.monotonic() - began_s

    def leftovers(self) -> list[str]:
        """Return the containers, networks and volumes of this project that the engine has."""
        label = f"label=com.docker.compose.project={PROJECT}"
        return [
            f"{kind} {name}"
            for kind, words in LISTS.items()
            for name in self.engine.docker(*words, "--quiet", "--filter", label).split()
        ]
