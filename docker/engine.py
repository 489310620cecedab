"""Which Docker client, engine and compose a test can use, and how an image is built with them."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The first client whose own default is BuildKit, and which needs the plugin buildx for it.
FIRST_MAJOR_WITH_BUILDX = 23
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class NoEngine(Exception):
    """Nothing here can build and run an image; the message says what is missing."""


@dataclass(frozen=True)
class Engine:
    """A client that reaches an engine.

    Attributes:
        client: path of a ``docker`` that can build with BuildKit.
        compose: the words that start compose.
    """

    client: str
    compose: tuple[str, ...]

    def docker(self, *words: str, check: bool = True) -> str:
        """Run one docker command and return what it printed, without the last line break.

        Raises:
            subprocess.CalledProcessError: it failed; its ``stderr`` says why.
        """
        done = subprocess.run([self.client, *words], capture_output=True, text=True, check=check)
        return done.stdout.rstrip("\n")

    def has_default_network(self) -> bool:
        """Tell whether containers and builds get a network unless they ask for another."""
        return "bridge" in self.docker("network", "ls", "--format", "{{.Name}}").split()

    def bytes_beyond_base(self, image: str) -> int:
        """Return the size of the layers that our Dockerfiles add to Debian's image."""
        layers = self.docker(
            "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.Comment}}", image
        )
        # Debian's own layer is made by another tool. The base itself may not be in the list of
        # images: BuildKit keeps what it pulls to itself.
        rows = [layer.split(maxsplit=1) for layer in layers.splitlines()]
        return sum(int(size) for size, *made_by in rows if "buildkit" in " ".join(made_by))

    def build(self, dockerfile: str, tag: str, arguments: Sequence[str] = ()) -> None:
        """Build an image from the working directory, with this machine's pip settings as secrets.

        Raises:
            subprocess.CalledProcessError: the build failed; it has printed why.
        """
        options = [word for argument in arguments for word in ("--build-arg", argument)]
        if not self.has_default_network():
            options += ["--network", "host"]
        command = [self.client, "build", "-f", dockerfile, "-t", tag, *options, *build_secrets()]
        subprocess.run([*command, "."], env=os.environ | {"DOCKER_BUILDKIT": "1"}, check=True)


def find_engine() -> Engine:
    """Return a client and compose that reach a running engine.

    Raises:
        NoEngine: there is none.
    """
    client = find_client(os.environ.get("PATH", ""))
    answer = subprocess.run([client, "ps"], capture_output=True, text=True)
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or ["docker ps failed"]
        raise NoEngine(
            f"no engine answers {client}: {lines[-1]} Start Docker, or as root on Linux: "
            "docker/local-engine.sh make docker-test"
        )
    if _succeeds(client, "compose", "version"):
        return Engine(client, (client, "compose"))
    compose = shutil.which("docker-compose")
    if compose is None:
        raise NoEngine("neither 'docker compose' nor docker-compose is here; install one of them")
    return Engine(client, (compose,))


def find_client(search_path: str) -> str:
    """Return the first ``docker`` on a search path that can build with BuildKit.

    Raises:
        NoEngine: there is none.
    """
    tried = []
    for folder in search_path.split(os.pathsep):
        client = shutil.which("docker", path=folder)
        if client is None:
            continue
        version = subprocess.run([client, "--version"], capture_output=True, text=True).stdout
        number = re.search(r"version (\d+)", version)
        if number and int(number[1]) < FIRST_MAJOR_WITH_BUILDX:
            return client
        if _succeeds(client, "buildx", "version"):
            return client
        tried.append(f"{client} has no plugin buildx")
    raise NoEngine("; ".join(tried) or "there is no docker on the PATH; install Docker")


def build_secrets() -> list[str]:
    """Return the build options that lend this machine's pip settings and certificates.

    They are mounted for the one command that installs packages, and are in no layer.
    """
    certificates = Path(os.environ.get("SSL_CERT_FILE", SYSTEM_CERTIFICATES))
    settings = [
        Path(os.environ.get("PIP_CONFIG_FILE", "")),
        Path.home() / ".config/pip/pip.conf",
        Path.home() / ".pip/pip.conf",
        Path("/etc/pip.conf"),
    ]
    lent = {
        "ca_certificates": certificates if certificates.is_file() else None,
        "pip_conf": next((path for path in settings if path.is_file()), None),
    }
    secrets = [f"id={name},src={path}" for name, path in lent.items() if path is not None]
    return [word for secret in secrets for word in ("--secret", secret)]


def _succeeds(*words: str) -> bool:
    return subprocess.run(words, capture_output=True).returncode == 0
