"""BentoML: one worker with the model. ``with_bentoml.py MODEL PORT``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from segment import CONTENT_TYPE, open_session, segment

MODEL = "BENCH_MODEL"


@bentoml.service(workers=1, traffic={"timeout": 600})
class Segment:
    """Takes a multipart form."""

    def __init__(self) -> None:
        self.session = open_session(Path(os.environ[MODEL]))

    @bentoml.api(route="/segment")
    def segment(
        self, file: Annotated[Path, ContentType(CONTENT_TYPE)]
    ) -> Annotated[bytes, ContentType(CONTENT_TYPE)]:
        """Segment one image."""
        return segment(self.session, file.read_bytes())


if __name__ == "__main__":
    os.environ[MODEL] = sys.argv[1]
    where = ["--host", "127.0.0.1", "--port", sys.argv[2]]
    os.chdir(Path(__file__).parent)
    bentoml = str(Path(sys.executable).parent / "bentoml")
    os.execv(bentoml, [bentoml, "serve", "with_bentoml:Segment", *where])
