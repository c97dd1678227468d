# renorm in a container: a virtual environment is built in one stage and copied into a clean one. See docker/README.md.

FROM python:3.11-slim AS build

# An index with the PyTorch build to use, CPU or CUDA. Empty: what the standard index has, on Linux a CUDA build.
ARG TORCH_INDEX_URL=""

ENV PIP_CONSTRAINT=constraints.txt \
    PIP_BUILD_CONSTRAINT=constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /src
RUN python -m venv /opt/renorm

# PyTorch is nearly all of the image: in a layer of its own, it is fetched again only when a pin or the index changes.
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
      /opt/renorm/bin/pip install --no-deps --index-url "$TORCH_INDEX_URL" torch torchvision; \
    fi \
 && /opt/renorm/bin/pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY adapters adapters
COPY app app
RUN /opt/renorm/bin/pip wheel --no-deps --wheel-dir /wheels . \
 && wheel="$(echo /wheels/renorm-*.whl)" \
 && /opt/renorm/bin/pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} "${wheel}[timm,grpc,traces]"


FROM python:3.11-slim

RUN useradd --create-home --uid 10001 renorm
COPY --from=build /opt/renorm /opt/renorm
COPY docker/healthcheck.py /opt/renorm/healthcheck.py

# Variables rather than arguments, so that they hold for whatever command the container is given.
ENV PATH=/opt/renorm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RENORM_HOST=0.0.0.0 \
    RENORM_PORT=8000

# By number, so that Kubernetes can tell that it is not root.
USER 10001
WORKDIR /home/renorm
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=8s --start-period=60s --retries=3 \
  CMD ["python", "/opt/renorm/healthcheck.py"]

# It starts with keys, or when told that none are needed: docker run -e RENORM_ADMIN_KEY ..., -e RENORM_INSECURE=true
ENTRYPOINT ["renorm"]
CMD ["serve"]
