"""OpenAI's unmodified Python client, with a model that fails."""

import asyncio
import time
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from batching.llm.simulated.answers import answer_prompt
from batching.tests.harness import Harness
from batching.tests.model_gate import TextEventCounter, use_gate


@pytest.fixture
async def client(harness: Harness) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url="http://localhost/v1", api_key="any", http_client=harness.client
    ) as client:
        yield client


async def ask(client: AsyncOpenAI, prompt: str, **more):
    """The answer, or the chunks of a streamed one."""
    more = {"service_tier": "priority"} | more
    messages = [{"role": "user", "content": prompt}]
    answer = await client.chat.completions.create(model="any", messages=messages, **more)
    return [chunk async for chunk in answer] if more.get("stream") else answer


async def test_completions_share_a_call_and_keep_their_own_answers(
    harness: Harness, client: AsyncOpenAI
) -> None:
    harness.hold()
    tasks = [asyncio.create_task(ask(client, f"question {i}", user="ann")) for i in range(6)]
    await harness.release(6)
    answers = await asyncio.gather(*tasks)
    for index, answer in enumerate(answers):
        choice = answer.choices[0]
        assert choice.message.content == answer_prompt(f"question {index}")
        assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
        assert (answer.object, answer.service_tier) == ("chat.completion", "priority")
        assert answer.model == "gemini-3.8-flash"
        assert answer.id.startswith("chatcmpl-")
        assert abs(answer.created - time.time()) < 60
        usage = answer.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
        assert usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert harness.server.sizes == [6]


async def test_limit_cuts_an_answer_and_sets_the_finish_reason(client: AsyncOpenAI) -> None:
    whole = answer_prompt("[[words:300]]")
    answer = await ask(client, "[[words:300]]", max_completion_tokens=10)
    assert answer.choices[0].message.content == whole[:40]
    assert answer.choices[0].finish_reason == "length"
    stream = await ask(client, "[[words:300]]", max_completion_tokens=10, stream=True)
    chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == whole[:40]
    assert chunks[-1].finish_reason == "length"


async def test_conversation_is_one_item(harness: Harness, client: AsyncOpenAI) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
        {"role": "user", "content": "And why that?"},
    ]
    await client.chat.completions.create(model="any", messages=messages, service_tier="priority")
    (call,) = harness.server.calls
    (prompt,) = call.prompts.values()
    assert all(message["content"] in prompt for message in messages)


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    models = [found.id async for found in client.models.list()]
    assert models == ["gemini-3.8-flash"]
    assert (await client.models.retrieve("gemini-3.8-flash")).owned_by == "google"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_bad_parameters_are_errors_that_the_client_knows(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, "Why?", n=2)
    assert (refused.value.code, refused.value.param) == ("invalid", "n")
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, "Why?", extra_body={"top_k": 1})
    assert refused.value.param == "top_k"


@pytest.mark.parametrize("stream", [False, True])
async def test_client_does_not_retry_a_failed_request(
    harness: Harness, client: AsyncOpenAI, stream: bool
) -> None:
    """Otherwise it would send the request twice more, and the model would be paid each time."""
    with pytest.raises(openai.APIError) as failed:
        await ask(client, "[[fault:blocked]] Why?", stream=stream)
    assert failed.value.code == "blocked"
    assert len(harness.server.sizes) == 1


@pytest.mark.parametrize("fault", ["day", "long", "limit-0", "cap", "credits"])
async def test_client_does_not_repeat_what_only_a_long_wait_can_help(
    harness: Harness, client: AsyncOpenAI, fault: str
) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(client.with_options(max_retries=2), f"[[fault:status-429-{fault}]] Why?")
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert harness.server.sizes == [1]


async def test_client_does_not_see_the_retries_of_the_gateway(
    harness: Harness, client: AsyncOpenAI
) -> None:
    answer = await ask(client, "[[fault:status-500:1]] Why?")
    assert answer.choices[0].message.content == answer_prompt("[[fault:status-500:1]] Why?")
    assert len(harness.server.sizes) == 2


async def test_stream_whose_text_restarts_continues_or_ends_with_an_error(
    harness: Harness, client: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulated model writes the same text again, so the stream continues."""
    text_events = TextEventCounter(monkeypatch)
    use_gate(monkeypatch, lambda written: written < 4 or text_events.total)
    prompt = "[[fault:reset:1]] [[words:200]]"
    stream = await ask(client, prompt, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" for chunk in stream])
    assert text == answer_prompt(prompt)
    assert len(harness.server.sizes) == 2


async def test_same_idempotency_key_is_sent_to_the_model_once(
    harness: Harness, client: AsyncOpenAI
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await ask(client, "Why?", extra_headers=headers)
    again = await ask(client, "Why?", extra_headers=headers)
    assert first == again
    assert sum(harness.server.sizes) == 1
    with pytest.raises(openai.ConflictError):
        await ask(client, "Why not?", extra_headers=headers)


async def test_client_in_a_browser_may_send_its_headers_and_read_those_of_the_gateway(
    harness: Harness, settings
) -> None:
    origin = "https://app.example"
    settings.CORS_ALLOWED_ORIGINS = [origin]
    sent = "authorization,content-type,x-stainless-helper-method,x-stainless-retry-count"
    asked = await harness.client.options(
        "/v1/chat/completions",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": sent,
        },
    )
    allowed = asked.headers["access-control-allow-headers"].replace(" ", "").split(",")
    assert set(sent.split(",")) <= set(allowed)
    refused = await harness.client.post("/v1/chat/completions", json={}, headers={"Origin": origin})
    exposed = refused.headers["access-control-expose-headers"].lower()
    assert "x-should-retry" in refused.headers
    assert "x-should-retry" in exposed
    assert "retry-after" in exposed
