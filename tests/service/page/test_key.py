"""The page where the service asks for a key, in a real browser."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ASKS, LOADS = "longskip_key-that-asks", "longskip_key-that-loads"
TEXT = "document.querySelector('{}').textContent"
NOTE = TEXT.format("#key-note")
LISTED = "document.querySelectorAll('#models input').length > 0"
GIVE = """(() => {
  document.querySelector('#key').value = 'KEY';
  document.querySelector('#key-form button').click();
})()"""


@pytest.fixture(scope="module")
def guarded(
    start_service: Any, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    entries = [
        {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": [scope]}
        for name, key, scope in (("asks", ASKS, "infer"), ("loads", LOADS, "admin"))
    ]
    path.write_text(yaml.safe_dump({"keys": entries}))
    with start_service(models=models, keys=path) as service:
        yield service


def test_the_page_asks_for_a_key_says_what_is_wrong_with_it_and_uses_it(
    tab: Any, guarded: Any, make_pixels: Any, encode_png: Any, tmp_path: Path
) -> None:
    tab.open(f"{guarded.address}/")
    tab.wait_for("!document.querySelector('#key-form').hidden")
    assert tab.evaluate(NOTE) == "This service asks for an API key."
    assert tab.evaluate("document.querySelector('#forget-key').hidden")
    tab.evaluate(GIVE.replace("KEY", "Schlüssel"))
    assert "This is no key" in tab.evaluate(NOTE)
    tab.evaluate(GIVE.replace("KEY", "wrong"))
    tab.wait_for(f"{NOTE} === 'The service does not know this key.'")
    tab.evaluate(GIVE.replace("KEY", LOADS))
    tab.wait_for(f"{NOTE}.includes('the key opens admin; this needs infer')")
    tab.evaluate(GIVE.replace("KEY", f"  {ASKS} "))
    tab.wait_for(LISTED)
    assert tab.evaluate("document.querySelector('#key-form').hidden")
    assert tab.evaluate("document.querySelector('#key').value") == ""
    image = tmp_path / "image.png"
    image.write_bytes(encode_png(make_pixels(30, 40)))
    tab.choose_file("#file", image)
    tab.wait_for(f"{TEXT.format('#status')} === 'Done.'")
    assert "Authorization: Bearer KEY" in tab.evaluate(TEXT.format("#curl"))
    # In no address, in nothing that outlives the tab, and not in the log.
    assert ASKS not in tab.evaluate("location.href + document.cookie")
    asked = tab.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [address for address in asked if ASKS in address]
    assert tab.evaluate("localStorage.length") == 0
    log = guarded.log.read_text()
    assert '"caller": "asks"' in log
    assert ASKS not in log


def test_a_key_lasts_as_long_as_the_tab_and_can_be_forgotten(tab: Any, guarded: Any) -> None:
    tab.open(f"{guarded.address}/")
    tab.wait_for("!document.querySelector('#key-form').hidden")
    tab.evaluate(GIVE.replace("KEY", ASKS))
    tab.wait_for(LISTED)
    tab.open(f"{guarded.address}/")
    tab.wait_for(LISTED)
    tab.evaluate("document.querySelector('#forget-key').click()")
    tab.wait_for("!document.querySelector('#key-form').hidden")
    assert tab.evaluate(NOTE) == "This service asks for an API key."
    assert tab.evaluate("sessionStorage.length") == 0
    assert not tab.evaluate(LISTED)


def test_where_no_key_is_asked_there_is_no_field(tab: Any, service: Any) -> None:
    tab.open(f"{service.address}/")
    tab.wait_for(LISTED)
    assert tab.evaluate("document.querySelector('#key-form').hidden")
    assert tab.evaluate("document.querySelector('#forget-key').hidden")
    assert tab.console_errors == []
