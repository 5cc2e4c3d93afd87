# docker build -t xpnet .     then: docker run --rm -v "$PWD/runs:/home/xpnet/runs" xpnet
# docs/container.md explains it.

# Of both stages; any image with a Python of 3.11 or newer and pip will do.
ARG BASE=python:3.12-slim
FROM ${BASE} AS build

# Extras of pyproject.toml beside train: cuda12, or several as in torch,jax.
ARG EXTRAS=""

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY data/mnist data/mnist
COPY xpnet xpnet
# Without pip in it: the environment is all that the second stage takes over. What it needs, in which
# versions, pyproject.toml says.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/xpnet \
    && pip --python /opt/xpnet/bin/python install --no-cache-dir ".[train${EXTRAS:+,${EXTRAS}}]"


FROM ${BASE}

LABEL org.opencontainers.image.title="xpnet" \
      org.opencontainers.image.description="A from-scratch neural network, bitwise reproducible and batch-invariant on NumPy, CuPy, PyTorch, JAX and dpnp." \
      org.opencontainers.image.licenses="MIT AND CC-BY-SA-3.0"

COPY --from=build /opt/xpnet /opt/xpnet
# Anybody may write there, so that --user with any id works.
RUN useradd --uid 1000 --no-create-home --home-dir /home/xpnet xpnet \
    && install --directory --owner=xpnet --group=xpnet --mode=1777 /home/xpnet /home/xpnet/runs

# CuPy does not start where it cannot make its cache: /tmp may be a file system of its own.
ENV PATH="/opt/xpnet/bin:$PATH" \
    HOME="/home/xpnet" \
    CUPY_CACHE_DIR="/tmp/cupy"
USER 1000
WORKDIR /home/xpnet
VOLUME /home/xpnet/runs

# Training then ends as with Ctrl-C, and can go on later.
STOPSIGNAL SIGINT
ENTRYPOINT ["xpnet"]
CMD ["train"]
