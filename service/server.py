"""Run the app under uvicorn and say, once it answers, where and how to ask it."""

import asyncio
import gc
import shlex
import signal
import socket
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.connection import Connection
from service.errors import AddressUnavailable
from service.page.routes import list_samples
from service.protocols.openapi import RESEARCH_USE_ONLY
from service.repository.repository import Repository, ServedModel
from service.settings import Settings

LOOK_AGAIN_S = 0.1  # for a Ctrl-C that does not want to wait
WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class AnnouncingServer(uvicorn.Server):
    """uvicorn's server, which prints the start-up lines when it accepts connections."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, settings: Settings, repository: Repository
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._repository = repository
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        # What is there now stays: the collector need not look through it during requests.
        gc.collect()
        gc.freeze()
        port = self.servers[0].sockets[0].getsockname()[1]
        for line in start_up_lines(self._settings, self._repository, port):
            print(line, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say that it is not ready; take no more requests when a balancer has had time to see it.

        A second signal, and Ctrl-C, do not wait.
        """
        first, self._app.state.draining = not self._app.state.draining, True
        drain_s = self._settings.drain_s
        if first and sig == signal.SIGTERM and drain_s and self._loop is not None:
            # From a signal's handler: the loop may be asleep.
            self._loop.call_soon_threadsafe(self._loop.call_later, drain_s, self._stop, sig, frame)
        else:
            self._stop(sig, frame)

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.closing = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the requests under way, refuse what comes meanwhile, then close.

        uvicorn alone closes its sockets first, so that who comes meanwhile finds nobody there.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        under_way = set(self.server_state.tasks)
        while under_way and not self.force_exit and loop.time() < until_s:
            _, under_way = await asyncio.wait(under_way, timeout=LOOK_AGAIN_S)
        self.config.timeout_graceful_shutdown = max(1, round(until_s - loop.time()))
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Take the address, before the models are loaded for nothing; nobody can connect yet.

    Raises:
        AddressUnavailable: another process listens there, or it is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Otherwise the port cannot be had for a minute after the last process left it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _unavailable(host, port, error) from error
    return listener


def serve(
    app: FastAPI, settings: Settings, repository: Repository, listener: socket.socket
) -> None:
    """Serve until a signal comes; requests under way are answered first.

    Raises:
        AddressUnavailable: another process was quicker to listen there.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        root_path=settings.root_path,
        # Its access lines hold paths and queries; ours (protocols/observe.py) do not.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.deadline_s)),
    )
    server = AnnouncingServer(config, app, settings, repository)
    try:
        server.run(sockets=[listener])
    except OSError as error:
        if server.started:
            raise
        raise _unavailable(settings.host, settings.port, error) from error


def _unavailable(host: str, port: int, error: OSError) -> AddressUnavailable:
    return AddressUnavailable(
        f"cannot listen on {host} port {port}: {error.strerror or error}. Set LONGSKIP_PORT "
        "(0 takes a free one) or LONGSKIP_HOST, or stop what listens there."
    )


def start_up_lines(settings: Settings, repository: Repository, port: int) -> list[str]:
    """Return what a person needs to know at the start: models, address, a command to paste."""
    host = WILDCARD_HOSTS.get(settings.host, settings.host)
    address = f"http://{host}:{port}{settings.root_path}"
    lines = ["", "Longskip", f"  page   {address}/", f"  models {_models(repository)}"]
    names = [found.name for found in repository.usable]
    if names:
        image = shlex.quote(str(_sample(settings.samples)))
        ask = f"{address}/v1/models/{names[0]}/segment?format=overlay"
        lines.append(f"  try    curl -F file=@{image} '{ask}' -o overlay.png")
    lines += [f"  {RESEARCH_USE_ONLY}", ""]
    return lines


def _models(repository: Repository) -> str:
    entries = [entry for name in repository.names for entry in repository.versions(name)]
    if not entries:
        return "none found; set LONGSKIP_MODELS"
    return ", ".join(
        f"{e.name}/{e.version}" + ("" if isinstance(e, ServedModel) else f" ({e.state})")
        for e in entries
    )


def _sample(folder: Path) -> Path:
    names = list_samples(folder)
    return folder / names[0] if names else Path("image.png")
