"""Submit now, fetch the answer later.

The request id makes retries safe: a request with the same id and prompt joins the running one or
returns the stored answer, so the model is never called twice for it.
"""

import os
import time
import uuid

import httpx

URL = os.environ.get("LLMBATCH_URL", "http://localhost:8000")
KEY = os.environ.get("LLMBATCH_API_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}
BODY = {
    "username": "demo",
    "request_id": f"report-{uuid.uuid4()}",
    "prompt": "Summarize the plot of Hamlet.",
    "priority": "MEDIUM",
}

with httpx.Client(base_url=URL, headers=HEADERS, timeout=60) as client:
    submitted = client.post("/v1/query", json=BODY, headers={"Prefer": "respond-async"})
    submitted.raise_for_status()
    path = submitted.headers["Location"]
    print(f"accepted: {path}")
    while (state := client.get(path).raise_for_status().json())["status"] in (
        "queued",
        "running",
    ):
        print(f"{state['status']}, position {state['position']}, about {state['estimate_s']} s")
        time.sleep(0.3)

if state["error"]:
    raise SystemExit(f"{state['error']['code']}: {state['error']['detail']}")
print(state["response"]["text"])
