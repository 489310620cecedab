# The service, without torch.
#   docker build -f docker/service.Dockerfile -t longskip-service:cpu .
#   docker build -f docker/service.Dockerfile -t longskip-service:gpu --build-arg DEVICE=gpu .
# The mounts need BuildKit: Docker's own default since 23, before that DOCKER_BUILDKIT=1.
# Behind a mirror or a proxy with its own certificates, see docs/deploy.md.

# Debian 12 and its Python 3.11. The GPU needs no CUDA base: pip brings those libraries.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/*

FROM python AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates python3-pip \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# cpu or gpu: which of the two locks is installed.
ARG DEVICE=cpu
COPY requirements-${DEVICE}.lock /build/requirements.lock
# pip and not uv: every byte it installs is pinned by hash, and one pip.conf serves who needs one.
# The secrets are optional and reach no layer. No pip in the venv: nothing is installed later.
# NumPy's and SciPy's own tests (46 MB) and imagecodecs' symbol tables (36 MB) are left out.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv --without-pip /venv \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
       pip --python /venv/bin/python install --disable-pip-version-check \
       --only-binary :all: --require-hashes -r /build/requirements.lock \
    && find /venv -type d -name tests -prune -exec rm -rf {} + \
    && find /venv -path '*/imagecodecs/*.so' -exec strip --strip-unneeded {} +
COPY imaging /app/imaging
COPY contract /app/contract
COPY service /app/service
COPY docker/healthcheck.py /app/healthcheck.py
# The root is read-only when it runs, so what is not compiled here is compiled at every start.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

FROM python
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin longskip
COPY --from=builder /venv /venv
COPY --from=builder /app /app
WORKDIR /app
# 0.0.0.0 is the container's own: what is published outside, compose or -p decides.
# onnxruntime's wheels report to their maker unless told not to before they are imported.
# The NVIDIA line says which of the driver's libraries the container toolkit lends.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LONGSKIP_HOST=0.0.0.0 \
    LONGSKIP_MODELS=/models \
    LONGSKIP_PORT=8000 \
    LONGSKIP_SAMPLES=/samples \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/app/healthcheck.py"]
CMD ["python", "-m", "service"]
