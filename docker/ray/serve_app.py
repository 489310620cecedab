"""The service's app under Ray Serve: the same app in several replicas, on one machine or many.

    pip install --require-hashes -r requirements-cpu.lock
    pip install -r docker/ray/requirements.txt
    export PYTHONPATH=$PWD:$PWD/docker/ray RAY_USAGE_STATS_ENABLED=0
    export RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=again:proxy_layers
    ray start --head
    serve run serve_app:longskip

Settings are the service's own, LONGSKIP_*, of the shell that starts Ray. See docs/deploy.md.
"""

from fastapi import APIRouter, FastAPI, Response
from merge import merge_expositions
from prometheus_client import CONTENT_TYPE_LATEST
from ray import get_runtime_context, serve
from ray.serve.schema import LoggingConfig

from service.app import create_app
from service.errors import Forbidden
from service.logs import set_up_logging
from service.metrics import Metrics
from service.settings import Settings

REPLICAS = 2
CORES_EACH = 1
# Ray would let 5 in and keep the others waiting, where nobody sees them: the service's own queue is
# bounded, tells 429 with the seconds to wait, and drops who went away.
LET_IN_PER_QUEUE_PLACE = 2
TELL_WITHIN_S = 5.0


@serve.deployment(
    name="longskip",
    num_replicas=REPLICAS,
    ray_actor_options={"num_cpus": CORES_EACH},
    max_ongoing_requests=LET_IN_PER_QUEUE_PLACE * Settings().queue_size,
    # Requests under way are answered first.
    graceful_shutdown_timeout_s=Settings().deadline_s + 10,
    # Ray's lines hold paths; the service's own access log does not.
    logging_config=LoggingConfig(enable_access_log=False),
)
@serve.ingress()
class Longskip:
    """One replica: a process with its own engine, models, queue and metrics."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app in the replica's process, where its models are loaded."""
        set_up_logging()
        settings = Settings()
        if settings.threads is None and settings.device in ("auto", "cpu"):
            # As many as Ray set aside, not all that the machine has: others run beside it.
            cores = get_runtime_context().get_assigned_resources().get("CPU", CORES_EACH)
            settings = settings.model_copy(update={"threads": max(1, int(cores))})
        self._metrics = Metrics()
        app = create_app(settings, metrics=self._metrics)
        own, known = routes_of_all_replicas().routes, app.router.routes
        app.router.routes = [*own, *known]
        return app

    def exposition(self) -> tuple[str, bytes]:
        """Return which replica this is, and what its own ``/metrics`` would tell."""
        return serve.get_replica_context().replica_id.unique_id, self._metrics.exposition()


def routes_of_all_replicas() -> APIRouter:
    """Return the routes that would mislead if one replica answered them for itself."""
    router = APIRouter()

    @router.get("/metrics")
    async def metrics() -> Response:
        """Tell what all replicas tell, each under its label ``replica``."""
        here = serve.get_replica_context()
        handle = serve.get_deployment_handle(here.deployment, here.app_name)
        asked = handle.broadcast("exposition")
        told = await asked.results_async(timeout_s=TELL_WITHIN_S, return_exceptions=True)
        # An exception stands for a replica that is gone.
        by_replica = dict(one for one in told if not isinstance(one, BaseException))
        return Response(merge_expositions(by_replica), media_type=CONTENT_TYPE_LATEST)

    @router.post("/v2/repository/models/{model}/load")
    @router.post("/v2/repository/models/{model}/unload")
    async def refuse() -> Response:
        """Refuse what would reach one replica of several."""
        raise Forbidden(
            "several replicas serve these models, and a request reaches one of them; change the "
            "models' folder, which each of them follows"
        )

    return router


longskip = Longskip.bind()
