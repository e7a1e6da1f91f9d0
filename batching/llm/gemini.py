"""Calls Gemini through the google-genai SDK, which only this module and `errors` import.

Everything that the SDK would do by itself is off: it makes no retry, continues no answer, calls no
function, follows no redirect and never chooses another transport.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import cache

import httpx2
from google import genai
from google.genai import types

from batching.engine.errors import NoApiKey
from batching.engine.model import CallFailed, Piece
from batching.engine.prompt import CombinedPrompt
from batching.engine.usage import TokenUsage
from batching.llm.access import ModelAccess
from batching.llm.errors import explain_failure
from batching.llm.event_stream import normalize_event_stream
from batching.llm.simulated.transport import Responder, SimulatedTransport
from batching.llm.simulated.wire import Pace

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com/"
TEST_KEY_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1000
# The pool checks each idle connection for every call, so more of them cost time.
MAX_IDLE_CONNECTIONS = 16


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()  # Takes about 30 ms, so it is made once per process.


def build_client(access: ModelAccess) -> genai.Client:
    """Raises NoApiKey without a key, because the SDK would take one from the environment."""
    if not access.api_key:
        raise NoApiKey()
    tls = _tls_context()
    limits = httpx2.Limits(
        max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS
    )
    transport = access.transport or httpx2.AsyncHTTPTransport(verify=tls, limits=limits)
    return genai.Client(
        enterprise=False,
        api_key=access.api_key,
        http_options=types.HttpOptions(
            base_url=access.base_url or DEFAULT_BASE_URL,
            api_version=access.api_version,
            retry_options=types.HttpRetryOptions(attempts=1),
            client_args={"verify": tls},
            async_client_args={
                "verify": tls,
                "transport": transport,
                "event_hooks": {"response": [normalize_event_stream]},
                "follow_redirects": False,
                # Otherwise a proxy from the environment would replace the simulated transport.
                "trust_env": access.transport is None,
            },
        ),
    )


class _SharedClient:
    """A client and the number of calls that use it."""

    def __init__(self, access: ModelAccess) -> None:
        self.access = access
        self.client = build_client(access)
        self.calls = 0


class GeminiModel:
    """Calls the model that `read_access` describes when the call starts.

    After a change of the key or the address, new calls use a new client. The old client is closed
    when its last call has ended.
    """

    def __init__(self, read_access: Callable[[], ModelAccess]) -> None:
        self._read_access = read_access
        self._current: _SharedClient | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Loads what the SDK would load during the first call of the process.

        Otherwise the first answer would be about a third of a second later than all others.
        """
        await asyncio.to_thread(_make_first_call)

    async def stream(
        self, prompt: CombinedPrompt, *, timeout_s: float
    ) -> AsyncGenerator[Piece, None]:
        """Makes one streamed call; `timeout_s` is sent to the service as well."""
        with self._use_client() as client:
            chunks = await client.aio.models.generate_content_stream(
                model=prompt.model,
                contents=_Content(role="user", parts=[_Part(text=prompt.contents)]),
                config=_config(prompt, timeout_s=timeout_s),
            )
            assert isinstance(chunks, AsyncGenerator)  # The SDK declares less than it returns.
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield parse_chunk(chunk)

    async def test_key(self, model: str) -> str:
        """Requests the description of the model, which costs no tokens; returns "" or the error."""
        try:
            with self._use_client() as client:
                async with asyncio.timeout(TEST_KEY_TIMEOUT_S):
                    await client.aio.models.get(model=model)
        except CallFailed as failure:
            return str(failure)
        return ""

    async def close(self) -> None:
        old, self._current = self._current, None
        self._close_if_unused(old)
        if self._closing:
            await asyncio.wait(self._closing)

    @contextmanager
    def _use_client(self) -> Iterator[genai.Client]:
        """Yields the client for one call; raises CallFailed for whatever the call raises."""
        shared: _SharedClient | None = None
        try:
            shared = self._share_client()
            shared.calls += 1
            yield shared.client
        except Exception as raised:
            # An error of the SDK holds the request, whose headers hold the key: hide it.
            raise explain_failure(raised) from None
        finally:
            if shared is not None:
                shared.calls -= 1
                self._close_if_unused(shared)

    def _share_client(self) -> _SharedClient:
        access = self._read_access()
        if self._current is None or self._current.access != access:
            old, self._current = self._current, _SharedClient(access)
            self._close_if_unused(old)
        return self._current

    def _close_if_unused(self, shared: _SharedClient | None) -> None:
        """Closes a client that no call uses and that no further call will use."""
        if shared is not None and shared is not self._current and shared.calls == 0:
            task = asyncio.create_task(shared.client.aio.aclose(), name="close model client")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


@cache
def _make_first_call() -> None:
    """Makes one simulated call in an event loop of its own."""
    transport = SimulatedTransport(Responder(pace=Pace(first_token_s=0.0, token_s=0.0)))
    model = GeminiModel(lambda: ModelAccess("simulated", transport=transport))
    schema = {"required": ["key"]}

    async def call() -> None:
        prompt = CombinedPrompt("gemini-3", ("key",), "", "{}", schema, max_output_tokens=100)
        async for _ in model.stream(prompt, timeout_s=10.0):
            pass
        await model.close()

    asyncio.run(call())


class _Unsearched:
    """Answers `name in model` at once.

    The SDK tests this for each field it knows, and pydantic iterates over all fields to answer. The
    answer is always False, and the iterations took a sixth of the processor time of a call.
    """

    def __contains__(self, name: object) -> bool:
        return False


class _Config(_Unsearched, types.GenerateContentConfig):
    pass


class _Content(_Unsearched, types.Content):
    pass


class _Part(_Unsearched, types.Part):
    pass


def _config(prompt: CombinedPrompt, *, timeout_s: float) -> types.GenerateContentConfig:
    return _Config(
        system_instruction=prompt.system,
        response_mime_type="application/json",
        max_output_tokens=prompt.max_output_tokens,
        thinking_config=_thinking_config(prompt.model),
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        http_options=types.HttpOptions(
            timeout=max(1, int(timeout_s * 1000)),
            # If the SDK knew the schema, it would parse each piece of the text, and fail on some.
            extra_body={"generationConfig": {"responseJsonSchema": prompt.schema}},
        ),
    )


def _thinking_config(model: str) -> types.ThinkingConfig | None:
    """The lowest thinking level that 3.x models allow; other models get no such field."""
    if re.search(r"(^|/)gemini-3([.-]|$)", model):
        return types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
    return None


def parse_chunk(chunk: types.GenerateContentResponse) -> Piece:
    """Parses one event of the stream; the text does not hold the model's thoughts."""
    candidate = chunk.candidates[0] if chunk.candidates else None
    parts = (candidate.content.parts or []) if candidate and candidate.content else []
    finish = candidate.finish_reason if candidate else None
    feedback = chunk.prompt_feedback
    block = feedback.block_reason if feedback else None
    return Piece(
        text="".join(part.text for part in parts if part.text and not part.thought),
        finish_reason=str(finish.value) if finish else None,
        block_reason=str(block.value) if block else None,
        usage=_parse_usage(chunk.usage_metadata),
        thinks=any(part.thought for part in parts),
    )


def _parse_usage(metadata: types.GenerateContentResponseUsageMetadata | None) -> TokenUsage | None:
    if metadata is None or metadata.prompt_token_count is None:
        return None
    return TokenUsage(
        prompt=max(0, metadata.prompt_token_count),
        output=max(0, metadata.candidates_token_count or 0),
        thoughts=max(0, metadata.thoughts_token_count or 0),
        cached=max(0, metadata.cached_content_token_count or 0),
    )
