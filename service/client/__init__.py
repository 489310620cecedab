"""A client of the service, with httpx alone: ask, wait when told to, ask again.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.segment("image.png", model="nuclei")
        Path("mask.png").write_bytes(answer.content)

``segment_many`` sends several images in one request. ``AsyncClient`` is the same with ``await``.
A request is sent again where the service has no room now (429, 503), after the seconds that it
names, and where the connection breaks: asking twice for a segmentation changes nothing.
"""

from service.client.answer import Answer, ServiceError
from service.client.client import AsyncClient, Client
from service.client.request import Image, Version

__all__ = ["Answer", "AsyncClient", "Client", "Image", "ServiceError", "Version"]
