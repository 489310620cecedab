"""Errors that only a running service has; they hang in the tree of ``contract/errors.py``.

LongskipError
├── BodyTooLarge           413  more bytes than the limit, told while they come in
├── BodyTooSlow            408  the body did not arrive before the deadline
├── BodyMalformed          400  a multipart body that does not parse
├── NotAcceptable          406  the Accept header names no format that there is
├── MediaTypeUnsupported   415  a Content-Type that is no image
├── Overloaded             429  queue or memory full: come again
├── KeyMissing             401  no API key, or a wrong one
├── Forbidden              403  the key does not open this
├── ModelNotReady          503  the model is there but failed its proof
├── Stopping               503  the service ends: ask again, another process may answer
├── DeadlineExceeded       504  no answer in time
├── ClientGone             499  nobody waits for the answer any more
├── AddressUnavailable     --   the service does not start: its port is taken
├── KeysInvalid            --   the service does not start: its file of keys cannot be used
└── PoliciesInvalid        --   the service does not start, or goes on with the former models.yaml
"""

from imaging.errors import LongskipError


class BodyTooLarge(LongskipError):
    """The request's body has more bytes than the limit."""


class BodyTooSlow(LongskipError):
    """The request's body did not arrive before the deadline."""


class BodyMalformed(LongskipError):
    """The request's multipart body does not parse."""


class NotAcceptable(LongskipError):
    """The Accept header names no format that there is."""


class MediaTypeUnsupported(LongskipError):
    """The Content-Type says that the body is no image."""


class Overloaded(LongskipError):
    """There is no room for the request now.

    Attributes:
        reason: what is full: ``queue``, ``memory`` or ``uploads``; log and metrics say it.
    """

    retry_after_s = 1

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelNotReady(LongskipError):
    """The model is in the repository but cannot be used."""


class Stopping(LongskipError):
    """The service takes no more requests, for it ends."""

    retry_after_s = 1


class DeadlineExceeded(LongskipError):
    """The answer was not ready in time."""


class ClientGone(LongskipError):
    """The client closed the connection before its answer was ready."""


class AddressUnavailable(LongskipError):
    """The service cannot listen where it should."""


class KeysInvalid(LongskipError):
    """The file of API keys cannot be used."""


class PoliciesInvalid(LongskipError):
    """The file that says which versions are in use cannot be used."""


class KeyMissing(LongskipError):
    """No API key came, or one that is not known."""


class Forbidden(LongskipError):
    """The key does not open what is asked for."""
