"""A cheap model service, which sends the whole reply in one event after a fixed time.

`python -m bench.model SECONDS [STYLE]` prints its address. The style `members` streams the members
of the reply evenly over that time; `stamped` streams small pieces, each with the time at which it
was written.
"""

import asyncio
import json
import sys
import time

# Pieces of a stamped answer.
PIECES = 20
ANSWER = "An answer of some length, as a model might give one. " * 4


def member(key: str, prompt: str) -> str:
    return f"{json.dumps(key)}: {json.dumps(f'{prompt} {ANSWER}')}"


def event(text: str, *, last: bool) -> bytes:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": [{"text": text}]}}
    document: dict[str, object] = {"candidates": [candidate]}
    if last:
        candidate["finishReason"] = "STOP"
        document["usageMetadata"] = {
            "promptTokenCount": 200,
            "candidatesTokenCount": 300,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 520,
        }
    data = b"data: " + json.dumps(document).encode() + b"\r\n\r\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


class Service:
    def __init__(self, *, model_time_s: float, style: str) -> None:
        self._time_s = model_time_s
        self._style = style
        self.calls = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                await self._reply(body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _reply(self, body: dict, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        prompts = json.loads(body["contents"][0]["parts"][0]["text"])
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        if self._style == "stamped":
            await self._write_stamped(list(prompts), writer)
        else:
            await self._write_members([member(*item) for item in prompts.items()], writer)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _write_members(self, members: list[str], writer: asyncio.StreamWriter) -> None:
        if self._style != "members":
            await asyncio.sleep(self._time_s)
            members = ["{" + ", ".join(members) + "}"]
        else:
            members[0] = "{" + members[0]
            members[1:] = [f", {text}" for text in members[1:]]
            members[-1] += "}"
        for index, text in enumerate(members):
            if self._style == "members":
                await asyncio.sleep(self._time_s / len(members))
            writer.write(event(text, last=index == len(members) - 1))

    async def _write_stamped(self, keys: list[str], writer: asyncio.StreamWriter) -> None:
        pause_s = self._time_s / len(keys) / PIECES
        for index, key in enumerate(keys):
            text = f'{", " if index else "{"}{json.dumps(key)}: "'
            for _ in range(PIECES):
                await asyncio.sleep(pause_s)
                text += f"some words @{time.monotonic():.6f} "
                writer.write(event(text, last=False))
                text = ""
            writer.write(event('"', last=False))
        writer.write(event("}", last=True))


async def main() -> None:
    style = sys.argv[2] if len(sys.argv) > 2 else "whole"
    service = Service(model_time_s=float(sys.argv[1]), style=style)
    server = await asyncio.start_server(service.accept, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
