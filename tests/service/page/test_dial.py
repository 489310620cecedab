"""The page's dial: sliders that turn a model's long skips down, in a real browser."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.model import Model

pytestmark = pytest.mark.slow

QUIET = (
    "!['', 'Working …'].includes(document.querySelector('#status').textContent) && "
    "!document.querySelector('.busy') && "
    "document.querySelector('.setting').textContent.startsWith('As set')"
)
FILL = """(() => {
  const canvas = document.querySelector('SELECTOR canvas.fill');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let text = '';
  for (let p = 3; p < data.length; p += 4) text += data[p] ? '1' : '0';
  return { height: canvas.height, width: canvas.width, bits: btoa(text) };
})()"""
ASKED = (
    "performance.getEntriesByType('resource').map((e) => decodeURIComponent(e.name))"
    ".filter((name) => name.includes('/segment?'))"
)
TURN = """(() => {
  const slider = document.querySelectorAll('.dial input[type=range]')[LEVEL];
  slider.value = GAIN;
  slider.dispatchEvent(new Event('input'));
  slider.dispatchEvent(new Event('change'));
})()"""


def _filled(page: Any, selector: str) -> Any:
    fill = page.evaluate(FILL.replace("SELECTOR", selector))
    bits = np.frombuffer(base64.b64decode(fill["bits"]), np.uint8) == ord("1")
    return bits.reshape(fill["height"], fill["width"])


def _turn(page: Any, level: int, gain: float) -> None:
    page.evaluate(TURN.replace("LEVEL", str(level)).replace("GAIN", str(gain)))


def _pick_only(page: Any, model: str) -> None:
    page.evaluate(
        "document.querySelectorAll('#models input:checked').forEach((box) => box.click());"
        f"document.querySelector('#models input[value={model}]').click()"
    )


@pytest.fixture
def expected(models: Path, make_pixels: Any) -> Any:
    """The image, and the model's labels of it for any gains, without the service."""
    model = Model.open(models / "dial" / "1" / "model.onnx", device="cpu", threads=1)
    pixels = make_pixels(40, 52, seed=4)
    image_chw = pixels.transpose(2, 0, 1).astype(np.float32)
    return pixels, lambda *gains: model.segment(image_chw, skip_gain=gains).labels > 0


def _open(tab: Any, address: str, model: str, pixels: Any, encode_png: Any, folder: Path) -> Any:
    image = folder / "image.png"
    image.write_bytes(encode_png(pixels))
    tab.open(f"{address}/")
    tab.wait_for("document.querySelectorAll('#models input').length > 0")
    _pick_only(tab, model)
    tab.choose_file("#file", image)
    return tab


@pytest.fixture
def dialled(tab: Any, service: Any, expected: Any, encode_png: Any, tmp_path: Path) -> Any:
    page = _open(tab, service.address, "dial", expected[0], encode_png, tmp_path)
    page.wait_for(QUIET)
    return page


def test_a_slider_per_level_and_the_pair_with_and_without_skips(
    dialled: Any, expected: Any
) -> None:
    labels = expected[1]
    names = dialled.evaluate("[...document.querySelectorAll('.name')].map((n) => n.textContent)")
    assert names == ["Image", "dial, as set", "dial, with all skips", "dial, without skips"]
    # As a screen reader names them.
    tree = dialled.call("Accessibility.getFullAXTree")["nodes"]
    sliders = [n["name"]["value"] for n in tree if n.get("role", {}).get("value") == "slider"]
    assert sliders == ["Opacity", "1:1 (finest)", "1:2"]
    with_all, without = labels(1, 1), labels(0, 0)
    np.testing.assert_array_equal(_filled(dialled, "[data-model=dial]"), with_all)
    np.testing.assert_array_equal(_filled(dialled, "[data-pair=with]"), with_all)
    np.testing.assert_array_equal(_filled(dialled, "[data-pair=without]"), without)
    said = dialled.evaluate("document.querySelector('.dial .pair').textContent")
    assert f"{int((with_all != without).sum()):,} px differ" in said
    assert dialled.console_errors == []


def test_a_slider_that_is_let_go_asks_again_and_says_how_far_the_answers_are_apart(
    dialled: Any, expected: Any
) -> None:
    labels = expected[1]
    _turn(dialled, 0, 0.4)
    dialled.wait_for(f"{ASKED}.some((name) => name.includes('skip_gain=0.4,1')) && {QUIET}")
    turned, rest = labels(0.4, 1), labels(1, 1)
    assert 0 < turned.sum() < rest.sum()
    np.testing.assert_array_equal(_filled(dialled, "[data-model=dial]"), turned)
    np.testing.assert_array_equal(_filled(dialled, "[data-pair=with]"), rest)
    dice = 2 * (turned & rest).sum() / (turned.sum() + rest.sum())
    said = dialled.evaluate("document.querySelector('.dial .setting').textContent")
    apart = int((turned != rest).sum())
    assert f"{apart:,} px differ ({100 * apart / rest.size:.2f} %), Dice bright {dice:.3f}" in said
    curl = dialled.evaluate("document.querySelector('#curl').textContent")
    assert "/v1/models/dial/segment?skip_gain=0.4,1" in curl
    dialled.evaluate("document.querySelector('.all-off').click()")
    dialled.wait_for(f"{ASKED}.filter((n) => n.includes('skip_gain=0,0')).length === 2 && {QUIET}")
    np.testing.assert_array_equal(_filled(dialled, "[data-model=dial]"), labels(0, 0))
    assert dialled.console_errors == []


def test_the_keyboard_turns_it(dialled: Any, expected: Any) -> None:
    dialled.evaluate("document.querySelector('.dial input[type=range]').focus()")
    for _ in range(10):
        for kind in ("rawKeyDown", "keyUp"):
            dialled.call(
                "Input.dispatchKeyEvent", type=kind, key="ArrowLeft", windowsVirtualKeyCode=37
            )
    dialled.wait_for(f"{ASKED}.some((name) => name.includes('skip_gain=0.5,1')) && {QUIET}")
    assert dialled.evaluate("document.querySelector('.dial output').textContent") == "50 %"
    np.testing.assert_array_equal(_filled(dialled, "[data-model=dial]"), expected[1](0.5, 1))


def test_many_turns_at_once_are_one_question(dialled: Any, expected: Any) -> None:
    before = len(dialled.evaluate(ASKED))
    gains = (0.9, 0.8, 0.7, 0.6, 0.5)
    dialled.evaluate(";".join(TURN.replace("LEVEL", "0").replace("GAIN", str(g)) for g in gains))
    dialled.wait_for(f"{ASKED}.some((name) => name.includes('skip_gain=0.5,1')) && {QUIET}")
    assert len(dialled.evaluate(ASKED)) == before + 1
    np.testing.assert_array_equal(_filled(dialled, "[data-model=dial]"), expected[1](0.5, 1))


def test_of_two_answers_under_way_the_newest_is_shown(
    tab: Any,
    serve_in_thread: Any,
    shut_gate: Any,
    models: Path,
    expected: Any,
    encode_png: Any,
    tmp_path: Path,
) -> None:
    model = shut_gate(Model.open(models / "dial" / "1" / "model.onnx", device="cpu", threads=1))
    model.gate.set()
    with serve_in_thread([("dial", model)]) as address:
        page = _open(tab, address, "dial", expected[0], encode_png, tmp_path)
        page.wait_for(QUIET)
        model.gate.clear()
        while model.entered.acquire(blocking=False):
            pass
        _turn(page, 0, 0.4)
        assert model.entered.acquire(timeout=30)  # the older question is in the model now
        _turn(page, 0, 0.6)
        depth = "(await (await fetch('metrics')).text())"
        page.wait_for(
            f"(async () => /longskip_queue_depth[^ ]* 1/.test({depth}))()"
        )  # and the newer one waits
        model.gate.set()
        page.wait_for(QUIET)
        np.testing.assert_array_equal(_filled(page, "[data-model=dial]"), expected[1](0.6, 1))
        assert "60 %" in page.evaluate("document.querySelector('.dial output').textContent")


def test_a_model_without_a_dial_shows_no_trace_of_one(
    tab: Any, service: Any, expected: Any, encode_png: Any, tmp_path: Path
) -> None:
    page = _open(tab, service.address, "grey", expected[0], encode_png, tmp_path)
    page.wait_for("document.querySelector('#status').textContent === 'Done.'")
    assert page.evaluate("document.querySelector('.dial') === null")
    assert page.evaluate("document.querySelectorAll('.panel').length") == 2
    assert not any("skip_gain" in address for address in page.evaluate(ASKED))
    assert "skip_gain" not in page.evaluate("document.querySelector('#curl').textContent")
