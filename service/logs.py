"""How this process logs: one line each, nothing personal, libraries only when they warn."""

import logging
import logging.config

# These would describe what they parse or which part of a file they read.
QUIET = ("python_multipart", "tifffile", "PIL", "asyncio", "uvicorn")


def set_up_logging() -> None:
    """Log to standard error."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
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
