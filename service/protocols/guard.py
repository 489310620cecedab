"""Who may ask: with keys everybody needs one, without them only admins' verbs are shut."""

import ipaddress
import re

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import keys
from service.errors import Forbidden, KeyMissing
from service.protocols.problems import problem_for, problem_response
from service.trace import SCOPE_KEY

# Liveness is asked by machines without keys, and the page has to come before its user can give one.
OPEN = re.compile(r"/v2/health/(live|ready)|/|/page/.*")
ADMIN = re.compile(r"/v2/repository/models/.*")


class Guard:
    """ASGI middleware that asks for keys."""

    def __init__(self, app: ASGIApp, known: keys.Keys | None, *, dev: bool) -> None:
        self._app = app
        self._keys = known
        self._dev = dev

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it before its body is read."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except (KeyMissing, Forbidden) as error:
                answer = problem_response(problem_for(error), scope, scope[SCOPE_KEY])
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        path = get_route_path(scope)
        needed: keys.Scope = "admin" if ADMIN.fullmatch(path) else "infer"
        if self._keys is None:
            if needed == "admin":
                self._check_dev(scope)
            return
        if OPEN.fullmatch(path):
            return
        told = Headers(scope=scope).getlist("authorization")
        if len(told) > 1:  # a proxy in front may have gone by another one than the first
            raise KeyMissing(f"{len(told)} Authorization headers came; send one")
        kind, _, offered = "".join(told).partition(" ")
        if kind.lower() != "bearer":
            raise KeyMissing("this service asks for a key; send it as 'Authorization: Bearer KEY'")
        key = self._keys.find(offered.strip())
        if key is None:
            raise KeyMissing("the key is none of this service's")
        scope[SCOPE_KEY].caller = key.name
        if needed not in key.scopes:
            raise Forbidden(f"the key opens {', '.join(sorted(key.scopes))}; this needs {needed}")

    def _check_dev(self, scope: Scope) -> None:
        host = (scope.get("client") or ("",))[0]
        # A page of another origin could post here through the browser of who develops.
        if not self._dev or not _is_loopback(host) or Headers(scope=scope).get("origin"):
            raise Forbidden(
                "loading and unloading models needs a key with the scope admin (LONGSKIP_KEYS), "
                "or a service started with --dev and asked from the same machine"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
