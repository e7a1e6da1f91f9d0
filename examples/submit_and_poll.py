"""Submit now, fetch the answer later.

The request keeps its id whatever happens to this program: sent again with the same id and prompt it
joins the running request or gets the stored answer, and is never asked for twice.
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
    where = submitted.headers["Location"]
    print(f"accepted: {where}")
    while (state := client.get(where).raise_for_status().json())["status"] in ("queued", "running"):
        print(f"{state['status']}, place {state['position']}, about {state['estimate_s']} s")
        time.sleep(0.3)

if state["error"]:
    raise SystemExit(f"{state['error']['code']}: {state['error']['detail']}")
print(state["response"]["text"])
