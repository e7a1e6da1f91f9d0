"""The page `/chats`, and its export as a file."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from chats.export import FORMATS, stream_chats
from chats.id_ranges import MAX_ID
from chats.models import Chat
from chats.page_forms import PageParameters, describe_form, format_query
from chats.search import search_chats
from chats.selectors import ChatPage, list_chats
from chats.serializers import CURSORS, PAGING
from settings_app.access.page_access import for_readers, may_administer

MAX_SHOWN_CHARACTERS = 20_000
MAX_COUNTED = 50_000


@require_safe
@for_readers
def chat_list(request: HttpRequest) -> HttpResponse:
    parameters = PageParameters(data=request.GET)
    context = _read_page(parameters) | {
        "problems": parameters.problems,
        "form": describe_form(request.GET, parameters),
        "asked": format_query(request.GET, parameters, without=PAGING),
        "paged": format_query(request.GET, parameters, without=CURSORS),
        "formats": FORMATS,
        "newest": not set(CURSORS) & set(request.GET),
        "is_staff": may_administer(request),
    }
    return render(request, "chats.html", context, status=400 if parameters.errors else 200)


@for_readers
async def export_chats(request: HttpRequest, form: str) -> HttpResponseBase:
    """Streams every chat that matches the filter as a file."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    parameters = PageParameters(data=request.GET)
    if not parameters.is_valid():
        text = "\n".join(parameters.problems)
        return HttpResponse(text, status=400, content_type="text/plain; charset=utf-8")
    return StreamingHttpResponse(
        stream_chats(parameters.which, form),
        content_type=FORMATS[form].content_type,
        headers={"Content-Disposition": f'attachment; filename="chats.{form}"'},
    )


def _read_page(parameters: PageParameters) -> dict[str, Any]:
    """Returns `rows`, newest first, and the `page` or the `search` that they belong to."""
    if not parameters.is_valid():
        return {"rows": [], "page": ChatPage([], 0, None, None)}
    which, paging = parameters.which, parameters.paging
    if which.search is None:
        page = list_chats(which, **paging, count_upto=MAX_COUNTED)
        return {"rows": _describe_rows(page.chats[::-1]), "page": page}
    # A search only goes back in time, so it ignores `after`.
    search = search_chats(which, limit=paging["limit"], before=paging.get("before", MAX_ID))
    return {"rows": _describe_rows(search.chats), "search": search}


def _describe_rows(chats: Sequence[Chat]) -> list[dict[str, Any]]:
    """Cuts the texts of the chats, so that the page does not become too long."""
    return [
        {"chat": chat, "prompt": _cut(chat.prompt), "answer": _cut(chat.text or "")}
        for chat in chats
    ]


def _cut(text: str) -> dict[str, Any]:
    return {
        "start": " ".join(text[:400].split())[:160],
        "whole": text[:MAX_SHOWN_CHARACTERS],
        "left": max(0, len(text) - MAX_SHOWN_CHARACTERS),
    }
