# The container that runs the pipeline: Snakemake from PyPI, ImageMagick, sidecall. No Hugin.
#
# The build's context is a folder with sidecall's wheel in it: demo-containers.sh makes one.
FROM docker.io/library/debian:bookworm-slim

RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends imagemagick python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY sidecall-*.whl /tmp/
RUN python3 -m venv /opt/builder \
 && /opt/builder/bin/pip install --no-cache-dir "snakemake>=8,<10" /tmp/sidecall-*.whl \
 && ln -s /opt/builder/bin/sidecall /opt/builder/bin/snakemake /usr/local/bin/ \
 && rm /tmp/sidecall-*.whl

WORKDIR /data
CMD ["sleep", "infinity"]
