"""Plain FastAPI: a sync handler, which runs in its thread pool. ``with_fastapi.py MODEL PORT``."""

import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Response
from segment import CONTENT_TYPE, open_session, segment

app = FastAPI()
session = open_session(Path(sys.argv[1]))


@app.post("/segment")
def segment_image(file: Annotated[bytes, File()]) -> Response:
    """Segment one image."""
    return Response(segment(session, file), media_type=CONTENT_TYPE)


@app.get("/health")
def health() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]))
