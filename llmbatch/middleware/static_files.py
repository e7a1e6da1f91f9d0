"""Static files from the process itself: compressed and cached for good once they are collected."""

from collections.abc import Awaitable
from pathlib import Path

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Hashed names after `collectstatic`; before it the plain names, which the finders know."""

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        return super().stored_name(name) if self.hashed_files else name


class StaticMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise that leaves every other request on the event loop.

    A sync middleware would move each request of the site to a thread and back.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: object) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self):
            return self._call_async(request)
        return super().__call__(request)

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(self.static_prefix):
            found = await sync_to_async(self._read_file, thread_sensitive=False)(request)
            if found is not None:
                return found
        return await self.get_response(request)

    def _read_file(self, request: HttpRequest) -> HttpResponse | None:
        """The whole file at once: Django warns of a file streamed from the event loop."""
        path = request.path_info
        file = self.find_file(path) if self.autorefresh else self.files.get(path)
        if file is None:
            return None
        streamed = self.serve(file, request)
        headers = dict(streamed.items())
        body = b"".join(streamed.streaming_content)
        streamed.close()
        return HttpResponse(body, status=streamed.status_code, headers=headers)

    def add_files(self, root: str | Path, prefix: str | None = None) -> None:
        if Path(root).is_dir():  # not before `collectstatic`
            super().add_files(root, prefix)
