"""``GET /metrics`` for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.running import RunningService

router = APIRouter(tags=["metrics"])


@router.get("/metrics", summary="Counts and times for Prometheus", response_class=Response)
def metrics(running: RunningService) -> Response:
    """Return Prometheus' text format; it holds no name from any request."""
    return Response(running.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
