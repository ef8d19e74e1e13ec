# The service's image. Two stages: uv installs the locked packages in the first, the second has no
# build tools. It needs no file system to write to: run it with --read-only.

FROM python:3.13-slim-trixie AS build
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /bin/uv
# The interpreter is the image's. The cache is on another file system, so nothing can be linked.
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/var/cache/uv
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-dev --compile-bytecode
COPY . .
# Nothing can be compiled at run time: the user may not write here.
RUN python -m compileall -q -x '\.venv' .

FROM python:3.13-slim-trixie
ENV PATH="/app/.venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PORT=8000
WORKDIR /app
# The files stay root's: the service cannot change its own code.
COPY --from=build /app /app
USER 999:999
EXPOSE 8000
# http.client, as urllib would go through a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
# No shell and no `uv run` in between: Python is process 1 and gets SIGTERM itself.
CMD ["python", "main.py"]
