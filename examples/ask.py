"""Ask one question; then six at once, which share one model call."""

import asyncio
import os

import httpx

URL = os.environ.get("LLMBATCH_URL", "http://localhost:8000")
KEY = os.environ.get("LLMBATCH_API_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}


async def ask(client: httpx.AsyncClient, prompt: str) -> dict:
    body = {"username": "demo", "prompt": prompt, "priority": "HIGH"}
    reply = await client.post("/v1/query", json=body)
    if reply.is_error:
        # Every error has a code and a sentence. Retry-After of a 429 or 503 says when to try again.
        error = reply.json()
        raise SystemExit(f"{reply.status_code} {error['code']}: {error['detail']}")
    return reply.json()


async def main() -> None:
    # An answer takes at most the priority's latency target and 30 s.
    async with httpx.AsyncClient(base_url=URL, headers=HEADERS, timeout=60) as client:
        answer = await ask(client, "Why is the sky blue?")
        print(answer["text"], f"({answer['latency_ms']} ms)")
        capitals = ["France", "Peru", "Kenya", "Japan", "Iceland", "Oman"]
        answers = await asyncio.gather(
            *(ask(client, f"What is the capital of {country}?") for country in capitals)
        )
        for country, answer in zip(capitals, answers, strict=True):
            print(f"{country}, in batch {answer['batch_id']} of {answer['batch_size']}:")
            print(answer["text"])


asyncio.run(main())
