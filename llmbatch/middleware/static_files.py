"""Serves static files from this process; collected ones are compressed and cached for years."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

from llmbatch.middleware.base import Middleware


class StaticStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # has no types
    """Returns hashed names after `collectstatic`, and plain names before it."""

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        stored: str = super().stored_name(name) if self.hashed_files else name
        return stored


class StaticMiddleware(Middleware, WhiteNoiseMiddleware):  # type: ignore[misc]  # has no types
    """WhiteNoise that uses a thread for static files only.

    As a sync middleware it would move each request to a thread and back.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        WhiteNoiseMiddleware.__init__(self, get_response)
        Middleware.__init__(self, get_response)

    def respond_early(self, request: HttpRequest) -> HttpResponse | None:
        """Reads the file at once: Django warns of a file that is streamed from the event loop."""
        path = request.path_info
        file = self.find_file(path) if self.autorefresh else self.files.get(path)
        if file is None:
            return None
        streamed = self.serve(file, request)
        headers = dict(streamed.items())
        body = b"".join(streamed.streaming_content)
        streamed.close()
        return HttpResponse(body, status=streamed.status_code, headers=headers)

    async def respond_early_async(self, request: HttpRequest) -> HttpResponse | None:
        if not request.path_info.startswith(self.static_prefix):
            return None
        return await sync_to_async(self.respond_early, thread_sensitive=False)(request)

    def add_files(self, root: str | Path, prefix: str | None = None) -> None:
        if Path(root).is_dir():  # `collectstatic` creates it
            super().add_files(root, prefix)
