# The container that has ffmpeg: Debian's, and sidecall's wheel from this directory (README.md).
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ffmpeg python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY sidecall-*.whl /tmp/
RUN python3 -m venv /opt/sidecall \
 && /opt/sidecall/bin/pip install --no-index --no-cache-dir /tmp/sidecall-*.whl \
 && ln -s /opt/sidecall/bin/sidecall /usr/local/bin/sidecall
COPY ffmpeg.toml /etc/sidecall/
CMD ["sidecall", "serve", "--config", "/etc/sidecall/ffmpeg.toml"]
