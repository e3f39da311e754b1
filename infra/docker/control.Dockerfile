# The control plane: API, compiler, driver. Contains no torch; the build fails if one slips in.
ARG PYTHON=3.11.15-slim-bookworm

FROM docker.io/library/python:${PYTHON} AS build
ARG ASYNCPG=0.32.0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/spindle
WORKDIR /src
COPY requirements/control.txt requirements/control.txt
COPY common common
COPY control control
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/spindle/bin/pip install --cache-dir /var/cache/pip --constraint requirements/control.txt ./common ./control "asyncpg==${ASYNCPG}"
RUN /opt/spindle/bin/python -c "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"

FROM docker.io/library/python:${PYTHON}
LABEL org.opencontainers.image.title="Spindle control plane" \
      org.opencontainers.image.licenses="Apache-2.0"
# The data folder belongs to the user, so that a fresh named volume does too.
RUN groupadd --gid 10001 spindle \
    && useradd --uid 10001 --gid spindle --home-dir /var/lib/spindle --shell /usr/sbin/nologin spindle \
    && install --directory --owner spindle --group spindle --mode 0700 /var/lib/spindle
COPY --from=build /opt/spindle /opt/spindle
ENV PATH=/opt/spindle/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SPINDLE_DATA_DIR=/var/lib/spindle \
    SPINDLE_LOG_FORMAT=json
WORKDIR /var/lib/spindle
USER 10001:10001
EXPOSE 8420
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8420/readyz', timeout=4)"]
CMD ["python", "-m", "spindle_control"]
