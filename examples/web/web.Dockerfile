# The container that has the page: FastAPI, and sidecall's wheel from this directory (README.md). No ffmpeg.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY sidecall-*.whl /tmp/
RUN python3 -m venv /opt/web \
 && /opt/web/bin/pip install --no-cache-dir "fastapi>=0.115" "uvicorn>=0.30" /tmp/sidecall-*.whl \
 && ln -s /opt/web/bin/sidecall /opt/web/bin/uvicorn /usr/local/bin/
COPY app.py page.html /srv/web/
# When it is stopped, connections of open pages have a second to end.
CMD ["uvicorn", "--app-dir", "/srv/web", "--host", "0.0.0.0", "--timeout-graceful-shutdown", "1", "app:app"]
