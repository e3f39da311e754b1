# The data plane: worker loop, nodes, models. TORCH_INDEX chooses the build of torch: …/whl/cpu, or …/whl/cu130 for CUDA.
ARG PYTHON=3.11.15-slim-bookworm

FROM docker.io/library/python:${PYTHON} AS build
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/spindle
# First and alone: the largest layer changes least, and nothing else may choose torch's build.
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/spindle/bin/pip install --cache-dir /var/cache/pip --index-url "${TORCH_INDEX}" "torch==${TORCH}"
WORKDIR /src
COPY requirements/run.txt requirements/run.txt
COPY common common
COPY worker worker
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/spindle/bin/pip install --cache-dir /var/cache/pip --constraint requirements/run.txt ./common "./worker[torch]"

FROM docker.io/library/python:${PYTHON}
LABEL org.opencontainers.image.title="Spindle worker" \
      org.opencontainers.image.licenses="Apache-2.0"
# The data folder belongs to the user, so that a fresh named volume does too.
RUN groupadd --gid 10001 spindle \
    && useradd --uid 10001 --gid spindle --home-dir /var/lib/spindle --shell /usr/sbin/nologin spindle \
    && install --directory --owner spindle --group spindle --mode 0700 /var/lib/spindle
COPY --from=build /opt/spindle /opt/spindle
ENV PATH=/opt/spindle/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/var/lib/spindle/huggingface \
    SPINDLE_DATA_DIR=/var/lib/spindle \
    SPINDLE_LOG_FORMAT=json \
    SPINDLE_WORKER_PORT=8421
WORKDIR /var/lib/spindle
USER 10001:10001
EXPOSE 8421
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8421/readyz', timeout=4)"]
CMD ["python", "-m", "spindle_worker"]
