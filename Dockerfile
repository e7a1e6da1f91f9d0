# The gateway as one process. /app/data holds the database and the secrets made at the first start,
# /app/logs the two rotating log files; nothing else is written.
FROM python:3.11.14-slim-bookworm AS packages
COPY requirements.txt /
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --only-binary :all: --requirement /requirements.txt

FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /app gateway
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY . .
# The secret is for this step alone: without it one would be made and kept in the image.
RUN python -m compileall -q . \
    && DJANGO_SECRET_KEY=unused python manage.py collectstatic --noinput --verbosity 0 \
    && install --directory --owner gateway --group gateway --mode 0750 data logs
USER 10001:10001
VOLUME ["/app/data", "/app/logs"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
CMD ["sh", "-c", "python manage.py migrate --noinput --verbosity 0 && exec python manage.py serve"]
