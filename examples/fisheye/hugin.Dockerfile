# The container that owns Hugin: Debian's command line tools and sidecall, nothing else.
#
# The build's context is a folder with sidecall's wheel in it: demo-containers.sh makes one.
FROM docker.io/library/debian:bookworm-slim

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends hugin-tools python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY sidecall-*.whl /tmp/
RUN python3 -m venv /opt/sidecall \
 && /opt/sidecall/bin/pip install --no-index --no-cache-dir /tmp/sidecall-*.whl \
 && ln -s /opt/sidecall/bin/sidecall /usr/local/bin/sidecall \
 && rm /tmp/sidecall-*.whl

# Its configuration and scripts come from a volume that it cannot write to.
CMD ["sidecall", "serve", "--config", "/scripts/hugin.toml"]
