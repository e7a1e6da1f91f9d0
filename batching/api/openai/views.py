"""POST /v1/chat/completions and GET /v1/models."""

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.request import Request

from batching.api.base import AsyncAPIView, respond_json
from batching.api.openai.requests import IDEMPOTENCY_HEADER, parse_completion
from batching.api.openai.responses import CompletionStream, describe_completion, in_openai_form
from batching.process.runtime import get_runtime
from settings_app.access.api_keys import Principal
from settings_app.access.rate_limits import take_turn
from settings_app.snapshot import current_snapshot

MODELS = "/v1/models"


class OpenAIView(AsyncAPIView):
    staff_only = False

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = await super().dispatch(request, *args, **kwargs)
        return in_openai_form(response)

    async def admit(self, request: Request) -> Principal | None:
        """These clients cannot do without a key: where none is needed, any will do."""
        try:
            return await super().admit(request)
        except AuthenticationFailed:
            if settings.API_ACCESS == "open":
                return None
            raise


class CompletionsView(OpenAIView):
    async def post(self, request: Request) -> HttpResponseBase:
        asked = parse_completion(request.data, request_id=request.headers.get(IDEMPOTENCY_HEADER))
        query = asked.query
        if self.principal is not None:
            await take_turn(self.principal)
            query = replace(query, client_id=self.principal.client_id)
        gateway = (await get_runtime()).gateway
        model = current_snapshot().model
        if not asked.stream:
            return respond_json(
                describe_completion(asked, await gateway.submit(query), model=model)
            )
        events = gateway.stream(query)
        accepted = await anext(events)  # a refusal keeps its HTTP status
        return CompletionStream(events, accepted=accepted, asked=asked, model=model)


class ModelsView(OpenAIView):
    """The one model that answers, whatever name a request gives."""

    async def get(self, request: Request) -> HttpResponse:
        await get_runtime()  # until it has started, the settings are in no memory
        model = _describe_model()
        if request.path == MODELS:
            return respond_json({"object": "list", "data": [model]})
        if request.path != f"{MODELS}/{model['id']}":
            raise NotFound()
        return respond_json(model)


def _describe_model() -> dict[str, Any]:
    return {"id": current_snapshot().model, "object": "model", "created": 0, "owned_by": "google"}
