"""`/chats`: what was asked and answered, for people; and the same as a file."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from chats.export import FORMATS, stream_chats
from chats.models import Chat
from chats.page_forms import PLACE, WAYS, PageParameters, describe_form, format_query
from chats.search import search_chats
from chats.selectors import ChatPage, list_chats
from settings_app.access.page_access import for_readers, for_readers_async, may_administer

SHOWN_CHARACTERS = 20_000
MAX_COUNTED = 50_000


@require_safe
@for_readers
def chat_list(request: HttpRequest) -> HttpResponse:
    parameters = PageParameters(data=request.GET)
    context = _read_page(parameters) | {
        "problems": parameters.problems,
        "form": describe_form(request.GET, parameters),
        "asked": format_query(request.GET, parameters, without=PLACE),
        "paged": format_query(request.GET, parameters, without=WAYS),
        "formats": FORMATS,
        "newest": not set(WAYS) & set(request.GET),
        "is_staff": may_administer(request),
    }
    return render(request, "chats.html", context, status=400 if parameters.errors else 200)


@for_readers_async
async def export_chats(request: HttpRequest, form: str) -> HttpResponseBase:
    """Every chat that the filter matches; the file grows as the database is read."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    parameters = PageParameters(data=request.GET)
    if not parameters.is_valid():
        text = "\n".join(parameters.problems)
        return HttpResponse(text, status=400, content_type="text/plain; charset=utf-8")
    return StreamingHttpResponse(
        stream_chats(parameters.which, form),
        content_type=FORMATS[form],
        headers={"Content-Disposition": f'attachment; filename="chats.{form}"'},
    )


def _read_page(parameters: PageParameters) -> dict[str, Any]:
    """`rows` newest first, and the `page` or the `search` that they are of."""
    if not parameters.is_valid():
        return {"rows": [], "page": ChatPage([], 0, None, None)}
    which, place = parameters.which, parameters.place
    if which.search is None:
        page = list_chats(which, **place, count_upto=MAX_COUNTED)
        return {"rows": describe_rows(page.chats[::-1]), "page": page}
    if "after" in place:  # a search goes back from somewhere, never forth
        place = {"limit": place["limit"]}
    search = search_chats(which, **place)
    return {"rows": describe_rows(search.chats), "search": search}


def describe_rows(chats: Sequence[Chat]) -> list[dict[str, Any]]:
    """Each with its texts cut where a page would become too long."""
    return [
        {"chat": chat, "prompt": _cut(chat.prompt), "answer": _cut(chat.text or "")}
        for chat in chats
    ]


def _cut(text: str) -> dict[str, Any]:
    return {
        "start": " ".join(text[:400].split())[:160],
        "whole": text[:SHOWN_CHARACTERS],
        "left": max(0, len(text) - SHOWN_CHARACTERS),
    }
