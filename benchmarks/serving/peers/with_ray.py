"""Ray Serve: one replica with the model. ``with_ray.py MODEL PORT``."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import ray
from fastapi import FastAPI, File, Response
from ray import serve
from segment import CONTENT_TYPE, open_session, segment

app = FastAPI()


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(app)
class Segment:
    """Takes a multipart form."""

    def __init__(self, model: str) -> None:
        self.session = open_session(Path(model))

    @app.post("/segment")
    def segment(self, file: Annotated[bytes, File()]) -> Response:
        """Segment one image."""
        return Response(segment(self.session, file), media_type=CONTENT_TYPE)


if __name__ == "__main__":
    # The replica imports segment.py too.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Segment.bind(str(Path(sys.argv[1]).resolve())))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
