"""The page at ``/``: its files and the sample images, all from here and nothing from afar."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from service.running import RunningService

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "panel.js": "text/javascript",
    "dial.js": "text/javascript",
    "difference.js": "text/javascript",
    "drawing.js": "text/javascript",
    "key.js": "text/javascript",
    "rest.js": "text/javascript",
    "rle.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
SAMPLE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# The page asks nothing of other hosts, and the browser holds it to that.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def list_samples(folder: Path) -> list[str]:
    """Return the names of the sample images, sorted; an absent folder has none."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in SAMPLE_ENDINGS and path.is_file()
    )


@router.get("/")
def index() -> FileResponse:
    """Return the page."""
    headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": "no-cache"}
    return FileResponse(FOLDER / "index.html", headers=headers)


@router.get("/page/samples")
def samples(running: RunningService) -> list[str]:
    """Return the names of the sample images."""
    return list_samples(running.settings.samples)


@router.get("/page/samples/{name}")
def sample(name: str, running: RunningService) -> FileResponse:
    """Return a sample image; only names from the list are files."""
    folder = running.settings.samples
    if name not in list_samples(folder):
        raise HTTPException(404)
    return FileResponse(folder / name)


@router.get("/page/{name}")
def page_file(name: str) -> FileResponse:
    """Return one of the page's files; only names from the list are files."""
    if name not in FILES:
        raise HTTPException(404)
    headers = {"Cache-Control": "no-cache"}
    return FileResponse(FOLDER / name, media_type=FILES[name], headers=headers)
