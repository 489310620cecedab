"""LitServe: one worker process with the model. ``with_litserve.py MODEL PORT``."""

import sys
from pathlib import Path

import litserve as ls
from fastapi import Request, Response
from segment import CONTENT_TYPE, open_session, segment


class SegmentAPI(ls.LitAPI):
    """Takes a multipart form."""

    def setup(self, device: str) -> None:
        """Open the model, in the worker."""
        self.session = open_session(Path(sys.argv[1]))

    def decode_request(self, request: Request) -> bytes:
        """Return the part's bytes."""
        return request["file"].file.read()

    def predict(self, png: bytes) -> bytes:
        """Segment one image."""
        return segment(self.session, png)

    def encode_response(self, mask: bytes) -> Response:
        """Return the mask."""
        return Response(mask, media_type=CONTENT_TYPE)


if __name__ == "__main__":
    server = ls.LitServer(
        SegmentAPI(api_path="/segment"), accelerator="cpu", workers_per_device=1, timeout=600
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
