"""The endpoint GET /v1/chat."""

from dataclasses import replace

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chats.export import stream_page
from chats.selectors import list_chats
from chats.serializers import ChatParameters, describe_chat
from settings_app.access.auth import KeyOrOpenAccess, client_of


class ChatListView(APIView):
    permission_classes = [KeyOrOpenAccess]

    def get(self, request: Request) -> HttpResponseBase:
        parameters = ChatParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        which = replace(parameters.which, client_id=client_of(request))
        page = list_chats(which, **parameters.paging)
        links = {
            "count": page.count,
            "next": _link(request, before=page.older),
            "previous": _link(request, after=page.newer),
        }
        if len(page.parts) > 1:  # written as it is read, so that it is never whole in memory
            return StreamingHttpResponse(stream_page(page, links), content_type="application/json")
        return Response({"chats": [describe_chat(chat) for chat in page.chats], **links})


def _link(request: Request, **cursor: int | None) -> str | None:
    """Returns the request's address with another cursor, or None for the cursor None."""
    [(name, chat_id)] = cursor.items()
    if chat_id is None:
        return None
    query = request.query_params.copy()
    query.pop("before", None)
    query.pop("after", None)
    query[name] = str(chat_id)
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
