"""Many prompts over one WebSocket; each answer arrives when it is ready."""

import asyncio
import json
import os

from websockets.asyncio.client import connect

URL = os.environ.get("LLMBATCH_URL", "http://localhost:8000").replace("http", "ws", 1)
KEY = os.environ.get("LLMBATCH_API_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}
PROMPTS = {"LOW": "Write a long poem.", "HIGH": "What is 2 + 2?", "MEDIUM": "Name three rivers."}


async def main() -> None:
    async with connect(f"{URL}/ws/query", additional_headers=HEADERS) as socket:
        for priority, prompt in PROMPTS.items():
            query = {"type": "query", "username": "demo", "prompt": prompt, "priority": priority}
            await socket.send(json.dumps(query | {"ref": priority}))
        left = len(PROMPTS)
        while left:
            frame = json.loads(await socket.recv())
            match frame["type"]:
                case "done":
                    print(f"{frame['ref']}: {frame['text']}")
                    left -= 1
                case "error":
                    print(f"{frame.get('ref')}: {frame['code']}, {frame['detail']}")
                    left -= 1
                case other:
                    print(f"{frame['ref']}: {other}")


asyncio.run(main())
