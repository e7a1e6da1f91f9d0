"""Stream an answer while the model writes it."""

import json
import os

import httpx

URL = os.environ.get("LLMBATCH_URL", "http://localhost:8000")
KEY = os.environ.get("LLMBATCH_API_KEY")
HEADERS = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {KEY}"} if KEY else {})
BODY = {"username": "demo", "prompt": "Tell me a short story.", "priority": "HIGH"}

with httpx.stream("POST", f"{URL}/v1/query", json=BODY, headers=HEADERS, timeout=60) as reply:
    if reply.is_error:
        raise SystemExit(f"{reply.status_code}: {reply.read().decode()}")
    for line in reply.iter_lines():
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        match event["type"]:
            case "text":
                print(event["content"], end="", flush=True)
            case "restart":
                print("\n-- discard the text above: the answer starts again --")
            case "done":
                print(f"\n-- {event['tokens_used']} tokens, {event['latency_ms']} ms --")
            case "error":
                raise SystemExit(f"\n{event['code']}: {event['detail']}")
