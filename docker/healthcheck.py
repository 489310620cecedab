"""Exit with 0 if the service in this container is ready. Run by the images' HEALTHCHECK."""

import http.client
import os
import sys

# http.client and not urllib: a proxy set for the container must not be asked about 127.0.0.1.
connection = http.client.HTTPConnection(
    "127.0.0.1", int(os.environ.get("LONGSKIP_PORT", "8000")), timeout=4
)
try:
    connection.request("GET", "/v2/health/ready")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"no answer: {error}")
if status != 200:
    sys.exit(f"not ready: status {status}")
