"""The lower bound: a hello-world ASGI application under the same Daphne and the same event loop.

`python -m bench.hello PORT`
"""

import asyncio
import sys
from typing import Any

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

BODY = b'{"hello": "world"}'


async def application(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"18")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    from daphne.server import Server

    endpoint = f"tcp:port={sys.argv[1]}:interface=127.0.0.1:backlog=4096"
    Server(application, endpoints=[endpoint], verbosity=0).run()
