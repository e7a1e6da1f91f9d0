"""POST /v1/chat/completions and GET /v1/models."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import AuthenticationFailed, NotFound

from batching.api.base import AsyncAPIView, charge_key, respond_json
from batching.api.openai.requests import IDEMPOTENCY_HEADER, CompletionRequest, parse_completion
from batching.api.openai.responses import CompletionStream, describe_completion, in_openai_form
from batching.process.runtime import get_runtime
from settings_app.access.api_keys import Principal
from settings_app.snapshot import current_snapshot

MODELS = "/v1/models"


class OpenAIView(AsyncAPIView):
    staff_only = False

    async def admit(self, request: HttpRequest) -> Principal | None:
        """OpenAI's clients always send a key, so open access accepts any text as one."""
        try:
            return await super().admit(request)
        except AuthenticationFailed:
            if settings.API_ACCESS == "open":
                return None
            raise

    def respond_error(self, error: Exception) -> HttpResponse:
        return in_openai_form(super().respond_error(error))


class CompletionsView(OpenAIView):
    def parse(self, request: HttpRequest) -> CompletionRequest:
        key = request.headers.get(IDEMPOTENCY_HEADER)
        return parse_completion(super().parse(request), request_id=key)

    async def post(self, request: HttpRequest) -> HttpResponseBase:
        requested = self.parse(request)
        query = await charge_key(self.principal, requested.query)
        gateway = (await get_runtime()).gateway
        model = current_snapshot().model
        if not requested.stream:
            answer = await gateway.submit(query)
            return respond_json(describe_completion(requested, answer, model=model))
        events = gateway.stream(query)
        accepted = await anext(events)  # raises a refusal before the status 200 is sent
        return CompletionStream(events, accepted=accepted, requested=requested, model=model)


class ModelsView(OpenAIView):
    """Lists the one model that answers, whatever model a request names."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        await get_runtime()  # its start loads the settings
        model = _describe_model()
        if request.path == MODELS:
            return respond_json({"object": "list", "data": [model]})
        if request.path != f"{MODELS}/{model['id']}":
            raise NotFound()
        return respond_json(model)


def _describe_model() -> dict[str, Any]:
    return {"id": current_snapshot().model, "object": "model", "created": 0, "owned_by": "google"}
