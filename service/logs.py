"""How this process logs: JSON objects, one a line, nothing personal; libraries when they warn."""

import json
import logging
import logging.config
import time

# These would describe what they parse or which part of a file they read.
QUIET = ("tifffile", "PIL", "asyncio", "uvicorn")
# json.dumps would make one for each line.
_encode = json.JSONEncoder(ensure_ascii=False).encode


class JsonLine(logging.Formatter):
    """Writes a record as one JSON object; a message that is a dict brings its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        # No ``datetime``: for each that it makes from a number of seconds CPython looks up a method
        # in vain, whose name then stays in a cache, thousands of them at last.
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{second}.{int(record.msecs):03d}+00:00",
            "level": record.levelname,
            "logger": record.name,
        }
        line |= record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


def set_up_logging() -> None:
    """Log to standard error."""
    # What no line tells need not be looked up for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLine}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {
                "longskip": {"level": "INFO"},
                **{name: {"level": "WARNING"} for name in QUIET},
                "tifffile": {"level": "CRITICAL"},
                # Each try again to reach a collector that is away would be a warning.
                "opentelemetry": {"level": "ERROR"},
            },
        }
    )
