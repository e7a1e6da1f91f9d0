# The gateway as one process. It writes only to /app/data (the database, and the secrets that the
# first start generates) and to /app/logs (two rotating log files).
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
# Only this step uses the secret. Without it, one would be generated and stay in the image.
RUN ln -s /opt/venv .venv \
    && python -m compileall -q . \
    && DJANGO_SECRET_KEY=unused python manage.py collectstatic --noinput --verbosity 0 \
    && install --directory --owner gateway --group gateway --mode 0700 data logs
USER 10001:10001
VOLUME ["/app/data", "/app/logs"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
CMD ["sh", "-c", "python manage.py migrate --noinput --verbosity 0 && exec python manage.py serve"]
