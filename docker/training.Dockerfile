# Offline training jobs: everything of requirements.lock (7.2 GB), on a GPU or without one.
#   docker build -f docker/training.Dockerfile -t longskip-training .
#   docker run --rm --network none --shm-size 2g --user $(id -u):$(id -g) \
#     -v $PWD/data:/longskip/data:ro -v $PWD/runs:/longskip/runs longskip-training fit --data.root data --out runs/a
# The loader's workers pass batches through /dev/shm; Docker's own 64 MB end in a bus error.
# The mounts need BuildKit: Docker's own default since 23, before that DOCKER_BUILDKIT=1.

# Debian 12 and its Python 3.11. The GPU needs no CUDA base: pip brings those libraries.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/*

FROM python AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-pip \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY requirements.lock /build/requirements.lock
# As in service.Dockerfile: all pinned by hash, the optional secrets reach no layer.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv --without-pip /venv \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
       pip --python /venv/bin/python install --disable-pip-version-check \
       --only-binary :all: --require-hashes -r /build/requirements.lock
COPY imaging /app/imaging
COPY contract /app/contract
COPY training /app/training
COPY service /app/service
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM python
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin longskip
COPY --from=builder /venv /venv
COPY --from=builder /app /app
# data, runs and models are mounted here. A job may run as any user (its files on the host are
# then that user's), so what libraries keep at home goes to /tmp. The last lines of ENV are
# service.Dockerfile's.
WORKDIR /longskip
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]
