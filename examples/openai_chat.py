"""OpenAI's own client with the gateway as its base URL."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("LLMBATCH_URL", "http://localhost:8000") + "/v1",
    api_key=os.environ.get("LLMBATCH_API_KEY", "any"),
)
messages = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "Why is the sky blue?"},
]

answer = client.chat.completions.create(
    model="any", messages=messages, service_tier="priority", user="demo"
)
print(answer.choices[0].message.content, f"({answer.usage.total_tokens} tokens)")

stream = client.chat.completions.create(
    model="any", messages=messages, service_tier="priority", user="demo", stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
