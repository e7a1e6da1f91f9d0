"""The real google-genai client with the gateway's options, connected to the simulated model."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2
from google import genai
from google.genai import types

from batching.engine.lanes import TokenBudget
from batching.engine.prompt import CombinedPrompt, combine
from batching.llm.simulated.transport import Responder
from batching.llm.simulated.wire import Reply
from batching.llm.tests.recording import RecordingTransport

MODEL = "gemini-3.8-flash"
PROMPTS = {"0_k3xq": "Why is the sky blue?", "1_m8zt": 'Say "ä\n🚀"', "2_p0ab": "Tell me a joke"}


@dataclass
class Outcome:
    chunks: list[types.GenerateContentResponse] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def text(self) -> str:
        return "".join(chunk.text or "" for chunk in self.chunks)

    @property
    def answers(self) -> dict[str, Any]:
        return json.loads(self.text)

    @property
    def usage(self) -> types.GenerateContentResponseUsageMetadata | None:
        return self.chunks[-1].usage_metadata if self.chunks else None

    @property
    def finish_reason(self) -> str | None:
        candidates = self.chunks[-1].candidates if self.chunks else None
        reason = candidates[0].finish_reason if candidates else None
        return reason.value if reason else None


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def make_client(
    *,
    transport: httpx2.AsyncBaseTransport | None = None,
    url: str = "http://model.invalid",
    key: str = "a-key",
) -> genai.Client:
    return genai.Client(
        enterprise=False,
        api_key=key,
        http_options=types.HttpOptions(
            base_url=url,
            api_version="v1beta",
            retry_options=types.HttpRetryOptions(attempts=1),
            client_args={"verify": _tls_context()},
            async_client_args={
                "verify": _tls_context(),
                "transport": transport
                or httpx2.AsyncHTTPTransport(
                    verify=_tls_context(),
                    limits=httpx2.Limits(max_connections=2000, max_keepalive_connections=500),
                ),
                "trust_env": False,
                "follow_redirects": False,
            },
        ),
    )


def make_prompt() -> CombinedPrompt:
    """The prompt of a call with one item."""
    budget = TokenBudget()
    return combine(["a"], model="m", style="", output_tokens=9, draw=lambda: "ab", budget=budget)


@asynccontextmanager
async def connect(url: str, **options: str) -> AsyncIterator[genai.Client]:
    """A client that uses real sockets and closes them at the end."""
    client = make_client(url=url, **options)
    try:
        yield client
    finally:
        await client.aio.aclose()


def make_config(
    keys: list[str] | None, *, max_output_tokens: int | None = None, timeout_s: float | None = None
) -> types.GenerateContentConfig:
    config = types.GenerateContentConfig(
        system_instruction="Answer briefly.",
        max_output_tokens=max_output_tokens,
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    if timeout_s is not None:
        config.http_options = types.HttpOptions(timeout=int(timeout_s * 1000))
    if keys is not None:
        config.response_mime_type = "application/json"
        config.response_json_schema = {
            "type": "object",
            "properties": {key: {"type": "string"} for key in keys},
            "required": keys,
            "additionalProperties": False,
        }
    return config


async def ask(
    client: genai.Client,
    prompts: Mapping[str, str] | str,
    *,
    max_output_tokens: int | None = None,
    timeout_s: float | None = None,
) -> Outcome:
    """Streams one call with one prompt or several by key; the outcome holds the error, if any."""
    plain = isinstance(prompts, str)
    outcome = Outcome()
    try:
        chunks = await client.aio.models.generate_content_stream(
            model=MODEL,
            contents=prompts if isinstance(prompts, str) else json.dumps(dict(prompts)),
            config=make_config(
                None if plain else [*prompts],
                max_output_tokens=max_output_tokens,
                timeout_s=timeout_s,
            ),
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                outcome.chunks.append(chunk)
    except BaseException as error:
        outcome.error = error
    return outcome


class Time:
    """A clock that advances only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def make_transport(**options) -> tuple[RecordingTransport, Time]:
    time = Time()
    return RecordingTransport(sleep=time.sleep, clock=time.clock, **options), time


async def ask_model(prompts=PROMPTS, **options) -> Outcome:
    transport, _ = make_transport(**options)
    return await ask(make_client(transport=transport), prompts)


def respond(
    prompts: dict[str, str] | str = PROMPTS, *, responder: Responder | None = None
) -> Reply:
    """Returns the reply to a call without a client."""
    text = prompts if isinstance(prompts, str) else json.dumps(prompts)
    body: dict = {"contents": [{"parts": [{"text": text}]}]}
    if not isinstance(prompts, str):
        body["generationConfig"] = {
            "responseMimeType": "application/json",
            "responseJsonSchema": {"properties": {}, "required": [*prompts]},
        }
    _, reply = (responder or Responder()).respond(
        target=f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse",
        headers={"X-Goog-Api-Key": "a-key"},
        content=json.dumps(body).encode(),
    )
    return reply
