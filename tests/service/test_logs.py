"""What stands on standard error: one JSON object per line, whoever logs."""

import json
import logging
from datetime import datetime
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from service.logs import JsonLine

NAMES = ("request_id", "method", "route", "status", "ms")


def _line(message: Any, *arguments: object, error: BaseException | None = None) -> dict[str, Any]:
    told = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("longskip.x", logging.INFO, "x.py", 1, message, arguments, told)
    written = JsonLine().format(record)
    assert len(written.splitlines()) == 1
    line: dict[str, Any] = json.loads(written)
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs(moment.timestamp() - record.created) < 1e-3
    assert (line.pop("level"), line.pop("logger")) == ("INFO", "longskip.x")
    return line


@given(st.text())
def test_any_message_is_one_line_that_reads_back(text: str) -> None:
    written = JsonLine().format(logging.LogRecord("a", 30, "x.py", 1, "%s", (text,), None))
    assert "\n" not in written
    assert json.loads(written)["message"] == text


def test_fields_stand_for_themselves_and_errors_in_one_field() -> None:
    assert _line({"status": 200, "ms": 1.5}) == {"status": 200, "ms": 1.5}
    assert _line("%s of %d", "grey", 3) == {"message": "grey of 3"}
    line = _line("failed", error=ValueError("why"))
    assert line["message"] == "failed"
    assert line["exception"].endswith("ValueError: why")


def test_every_line_of_a_running_service_is_an_object(client: httpx.Client, service: Any) -> None:
    answer = client.get("/v2/health/live")
    client.get("/v2/health/live")  # the first one's line is written before this one's answer
    text = service.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    # The others are for the person who started it.
    others = text.count("\n") - len(lines)
    assert others < 10
    (access,) = [
        line for line in lines if line.get("request_id") == answer.headers["x-longskip-request-id"]
    ]
    assert access["logger"] == "longskip.access"
    assert set(NAMES) <= set(access)
    assert access["route"] == "/v2/health/live"
