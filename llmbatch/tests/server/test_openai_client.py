"""OpenAI's own Python client, unmodified, against a running server."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from batching.llm.simulated.answers import answer_prompt
from batching.llm.simulated.wire import Pace
from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import Server

pytestmark = pytest.mark.server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        yield client


def ask(client: AsyncOpenAI, prompt: str, **more):
    more = {"service_tier": "priority"} | more
    messages = [{"role": "user", "content": prompt}]
    return client.chat.completions.create(model="any", messages=messages, **more)


async def test_stream_sends_the_text_in_chunks(model: ModelThread, client: AsyncOpenAI) -> None:
    model.set_pace(Pace(total_s=2.0))
    stream = await ask(client, "[[words:300]]", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    *middle, last = chunks
    assert last.choices == []
    assert last.usage.total_tokens > 0
    assert {chunk.id for chunk in chunks} == {last.id}
    deltas = [chunk.choices[0].delta for chunk in middle]
    assert deltas[0].role == "assistant"
    assert len(deltas) > 3
    assert "".join(d.content or "" for d in deltas) == answer_prompt("[[words:300]]")
    finishes = [chunk.choices[0].finish_reason for chunk in middle]
    assert finishes == [None] * (len(middle) - 1) + ["stop"]


async def test_streams_of_one_batch_receive_their_own_answers(
    model: ModelThread, client: AsyncOpenAI
) -> None:
    model.set_pace(Pace(total_s=0.6))

    async def read(prompt: str) -> str:
        stream = await ask(client, prompt, stream=True, service_tier="default")
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    prompts = [f"{index} [[words:100]]" for index in range(4)]
    assert await asyncio.gather(*map(read, prompts)) == [answer_prompt(p) for p in prompts]
    assert model.sizes == [4], "a full batch does not wait for its window"


async def test_errors_have_the_form_of_openai(server: Server) -> None:
    async with httpx2.AsyncClient(timeout=60) as http:
        url = f"{server.url}/v1/chat/completions"
        reply = await http.post(url, content=b"x" * 1_100_000)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
        reply = await http.get(url)
        assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
        reply = await http.post(url, headers={"content-type": "application/json"}, content=b"{")
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid")


async def test_restricted_access_needs_a_valid_key(
    guarded_server: Server,
) -> None:
    server = guarded_server
    key = server.manage("create_api_key", "ann", "--per-minute", "1").split()[-1]
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        assert (await ask(client, "Why?")).choices
        with pytest.raises(openai.RateLimitError) as limited:
            await ask(client, "Why?")
        assert int(limited.value.response.headers["Retry-After"]) > 1
        wrong = client.with_options(api_key="wrong")
        with pytest.raises(openai.AuthenticationError):
            await ask(wrong, "Why?")
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
