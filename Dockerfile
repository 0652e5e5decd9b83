# faceswap in an image: docker build -t faceswap . (docs/tutorial/install.md). Not built yet.
FROM python:3.12-slim-bookworm AS build
RUN pip install --no-cache-dir uv
# auto would look for a driver, which the machine that builds may lack: cpu, cu126, cu128 or cu130.
ARG TORCH_BACKEND=cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY faceswap_cli faceswap_cli
COPY models models
RUN uv venv /opt/faceswap && \
    VIRTUAL_ENV=/opt/faceswap uv pip install --no-cache --torch-backend "$TORCH_BACKEND" .

FROM python:3.12-slim-bookworm
# What the OpenCV of the packages and MediaPipe's loader link to.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libegl1 libgles2 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/faceswap /opt/faceswap
ENV PATH=/opt/faceswap/bin:$PATH
# Nobody's footage needs root. The key that signs outputs is in the home folder: mount it to keep it.
RUN useradd --create-home --uid 1000 faceswap && mkdir /data && chown faceswap /data
USER faceswap
WORKDIR /data
ENTRYPOINT ["faceswap"]
CMD []
