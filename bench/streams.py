"""How long a streamed text takes from the model to the client."""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.processes import gateway, model_service
from bench.tables import milliseconds, percentile, print_note, print_table

REPLY_S = 1.2
SECONDS = 8.0
RATES = (12, 60, 120)
_STAMP = re.compile(r"@(\d+\.\d{6})")
_PROMPTS = json.dumps({f"{index}_key": "direct" for index in range(6)})
_DIRECT = {"contents": [{"parts": [{"text": _PROMPTS}]}]}


@dataclass
class Ages:
    """Seconds from when the model wrote a piece until the client received it."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    failed: int = 0

    def take(self, stamps: list[str], *, is_first: bool) -> None:
        now = time.monotonic()
        for position, stamp in enumerate(stamps):
            ages = self.first if is_first and position == 0 else self.later
            ages.append(now - float(stamp))


def measure_streams() -> None:
    rows = []
    with model_service(REPLY_S, "stamped") as model, gateway(model) as server:
        floor = asyncio.run(_read_directly(model))
        for rate in RATES:
            ages = asyncio.run(_offer(server.url, rate=rate))
            rows.append(_describe(f"{rate} streams/s", ages))
        rows.append(_describe("floor: read from the model directly, 1 call/s", floor))
    header = ["", "first text p50", "p99", "every piece p50", "p99", "streams", "failed"]
    print_table("From the model to the client", header, rows)
    print_note(
        f"HIGH, batches of up to six, replies of {REPLY_S} s in 20 pieces per answer. Each piece"
        " holds the time at which the model service wrote it, on the clock that all processes of"
        " the machine share; its age is measured when the client receives it."
    )


def _describe(label: str, ages: Ages) -> list[object]:
    figures = [
        milliseconds(percentile(values, share))
        for values in (ages.first, ages.later)
        for share in (0.5, 0.99)
    ]
    return [label, *figures, len(ages.first), ages.failed]


async def _offer(url: str, *, rate: int) -> Ages:
    """Starts streams at fixed times: an open loop."""
    ages, tasks, began = Ages(), [], time.monotonic()
    for number in range(int(rate * SECONDS)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(_read_stream(url, number, ages)))
    await asyncio.gather(*tasks)
    return ages


async def _read_stream(url: str, number: int, ages: Ages) -> None:
    body = {"username": "bench", "prompt": f"stream {number}", "priority": "HIGH"}
    events = 0
    async for line in _post(url, "/v1/query", body, accept="text/event-stream"):
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if event["type"] == "text":
                ages.take(_STAMP.findall(event["content"]), is_first=not events)
            events += 1
    if not events or event["type"] != "done":
        ages.failed += 1


async def _read_directly(url: str) -> Ages:
    ages = Ages()
    for _ in range(int(SECONDS)):
        first = True
        async for line in _post(url, "/", _DIRECT, accept="*/*"):
            if stamps := _STAMP.findall(line.decode()):
                ages.take(stamps, is_first=first)
                first = False
    return ages


async def _post(url: str, path: str, document: dict, *, accept: str):
    """Yields the lines of the response's body."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    while (line := await reader.readline()) and line != b"0\r\n":
        yield line
    writer.close()
