"""The page at ``/``, driven in a real browser against a real service."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode_image
from service.page.routes import FILES

DONE = (
    "!['', 'Working …'].includes(document.querySelector('#status').textContent) && "
    "!document.querySelector('.busy')"
)
# What the canvas of filled classes holds, as base64 of RGBA.
FILL = """(() => {
  const canvas = document.querySelector('[data-model="MODEL"] canvas.fill');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let text = '';
  for (const byte of data) text += String.fromCharCode(byte);
  return { height: canvas.height, width: canvas.width, rgba: btoa(text) };
})()"""


@pytest.fixture
def page(tab: Any, service: Any) -> Any:
    tab.open(f"{service.address}/")
    tab.wait_for("document.querySelectorAll('#models input').length > 0")
    return tab


def _pick(page: Any, *models: str) -> None:
    page.evaluate(
        "document.querySelectorAll('#models input:checked').forEach((box) => box.click())"
    )
    for model in models:
        page.evaluate(f"document.querySelector('#models input[value={model}]').click()")


def _filled(page: Any, model: str) -> Any:
    fill = page.evaluate(FILL.replace("MODEL", model))
    rgba = np.frombuffer(base64.b64decode(fill["rgba"]), np.uint8)
    return rgba.reshape(fill["height"], fill["width"], 4)


@pytest.mark.slow
def test_two_models_side_by_side_show_what_plain_onnxruntime_says(
    page: Any, tmp_path: Path, make_pixels: Any, encode_png: Any, plain_onnxruntime: Any
) -> None:
    pixels = make_pixels(61, 83, 3, seed=8)
    image = tmp_path / "image.png"
    image.write_bytes(encode_png(pixels))
    _pick(page, "grey", "colour")
    page.choose_file("#file", image)
    page.wait_for(DONE)
    names = page.evaluate("[...document.querySelectorAll('.name')].map((n) => n.textContent)")
    assert names == ["Image", "grey", "colour"]
    labels = plain_onnxruntime("colour", pixels, version=2)["labels"]
    palette = np.array([[0, 0, 0, 0], [40, 90, 0, 255], [80, 180, 0, 255]], np.uint8)
    np.testing.assert_array_equal(_filled(page, "colour"), palette[labels])
    rows = page.evaluate(
        "[...document.querySelectorAll('[data-model=colour] tbody tr')].map((r) => r.innerText)"
    )
    for row, index, name in zip(rows, (1, 2), ("mid", "high"), strict=True):
        assert name in row
        assert f"{(labels == index).sum():,} px" in row
    facts = page.evaluate("document.querySelector('[data-model=colour] .facts').textContent")
    assert "v2" in facts
    assert "ms in the model" in facts
    assert page.console_errors == []


@pytest.mark.slow
def test_the_slider_sets_the_opacity_and_the_button_gives_the_mask(
    page: Any, tmp_path: Path, make_pixels: Any, encode_png: Any, plain_onnxruntime: Any
) -> None:
    pixels = make_pixels(40, 52, seed=3)
    image = tmp_path / "image.png"
    image.write_bytes(encode_png(pixels))
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "got"))
    _pick(page, "grey")
    page.choose_file("#file", image)
    page.wait_for(DONE)
    opacity = "getComputedStyle(document.querySelector('canvas.fill')).opacity"
    assert page.evaluate(opacity) == "0.4"
    page.evaluate(
        "(() => { const s = document.querySelector('#opacity'); s.value = 75;"
        " s.dispatchEvent(new Event('input')); })()"
    )
    assert page.evaluate(opacity) == "0.75"
    page.evaluate("document.querySelector('[data-model=grey] .download').click()")
    mask = tmp_path / "got" / "mask-grey.png"
    for _ in range(200):
        if mask.is_file() and mask.stat().st_size:
            break
        page.evaluate("new Promise((done) => setTimeout(done, 50))")
    labels = np.asarray(Image.open(io.BytesIO(mask.read_bytes())))
    np.testing.assert_array_equal(labels, plain_onnxruntime("grey", pixels)["labels"])


@pytest.mark.slow
def test_problems_are_shown_in_the_services_own_words(
    page: Any, service: Any, tmp_path: Path, make_pixels: Any, encode_png: Any
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(encode_png(make_pixels(20, 20)))
    _pick(page, "five", "grey")
    page.choose_file("#file", image)
    page.wait_for(DONE)
    url = f"{service.address}/v1/models/five/segment"
    detail = httpx.post(url, content=image.read_bytes()).json()["detail"]
    shown = page.evaluate("document.querySelector('[data-model=five] .problem').textContent")
    assert detail in shown
    assert page.evaluate("document.querySelector('[data-model=grey] .problem').hidden")
    assert "1 of 2" in page.evaluate("document.querySelector('#status').textContent")


@pytest.mark.slow
def test_an_image_that_the_browser_cannot_show_is_drawn_by_the_service(
    page: Any, tmp_path: Path, make_pixels: Any
) -> None:
    image = tmp_path / "image.tiff"
    Image.fromarray(make_pixels(33, 44)[:, :, 0]).save(image)
    assert decode_image(image.read_bytes(), max_pixels=10_000).pixels_hwc.shape == (33, 44, 1)
    _pick(page, "grey")
    page.choose_file("#file", image)
    page.wait_for(DONE)
    size = page.evaluate(
        "(() => { const c = document.querySelector('[data-model=grey] canvas');"
        " return [c.height, c.width]; })()"
    )
    assert size == [33, 44]
    assert page.console_errors == []


@pytest.mark.slow
def test_models_that_failed_are_listed_but_cannot_be_picked(page: Any) -> None:
    disabled = page.evaluate(
        "[...document.querySelectorAll('#models input:disabled')].map((box) => box.value)"
    )
    assert disabled == ["foreign", "newer", "rubbish"]
    _pick(page, "grey", "colour", "five")
    picked = "[...document.querySelectorAll('#models input:checked')].map((box) => box.value)"
    assert page.evaluate(picked) == ["colour", "five"]


@pytest.mark.slow
def test_nothing_is_asked_of_another_host(page: Any, service: Any) -> None:
    asked = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(asked) >= 5
    assert all(address.startswith(service.address) for address in asked)
    assert "Research use only" in page.evaluate("document.body.innerText")


def test_page_files_are_only_those_listed(client: httpx.Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in FILES:
        assert client.get(f"/page/{name}").status_code == 200
    for name in ("routes.py", "__init__.py", "..%2fapp.py", "%2e%2e/app.py", "index.html"):
        assert client.get(f"/page/{name}").status_code == 404
    assert client.get("/page/samples/..%2f..%2fREADME.md").status_code == 404


@pytest.mark.slow
def test_a_file_that_vanished_is_not_called_a_fault_of_the_service(
    page: Any, tmp_path: Path
) -> None:
    page.choose_file("#file", tmp_path / "nowhere.png")
    page.wait_for(DONE)
    assert "cannot be read" in page.evaluate("document.querySelector('#status').textContent")
    assert page.evaluate("document.querySelector('#answer').hidden")
