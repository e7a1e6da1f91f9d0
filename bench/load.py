"""A cheap load generator: raw HTTP over persistent connections, in one process.

`python -m bench.load` reads a job as JSON from standard input and prints its result as JSON.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Result:
    """`latencies` in seconds, and HTTP `statuses`, in the order of the requests."""

    latencies: dict[int, float] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    duration: float = 0.0


class Load:
    def __init__(self, url: str, *, path: str, bodies: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._path = path
        self._bodies = bodies
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.result = Result()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._idle:
            return self._idle.pop()
        return await asyncio.open_connection(self._host, self._port)

    async def request(self, number: int) -> None:
        body = self._bodies.replace("@", str(number)).encode()
        began = time.perf_counter()
        reader, writer = await self.connect()
        head = f"POST {self._path} HTTP/1.1\r\nhost: localhost\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        self.result.latencies[number] = time.perf_counter() - began
        self.result.statuses[number] = int(answer[9:12])
        self._idle.append((reader, writer))

    async def offer(self, *, rate: float, seconds: float) -> None:
        """An open loop: requests start at fixed times, even if earlier ones were not answered."""
        began, tasks = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            delay = began + number / rate - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.create_task(self.request(number)))
        await asyncio.gather(*tasks)
        self.result.duration = time.perf_counter() - began

    async def saturate(self, *, clients: int, seconds: float) -> None:
        """A closed loop: each client sends its next request when it has received its answer."""
        began, numbers = time.perf_counter(), iter(range(10**9))

        async def keep_sending() -> None:
            while time.perf_counter() - began < seconds:
                await self.request(next(numbers))

        await asyncio.gather(*(keep_sending() for _ in range(clients)))
        self.result.duration = time.perf_counter() - began

    async def burst(self, *, clients: int) -> None:
        began = time.perf_counter()
        await asyncio.gather(*(self.request(number) for number in range(clients)))
        self.result.duration = time.perf_counter() - began


async def main() -> None:
    job = json.load(sys.stdin)
    load = Load(job["url"], path=job["path"], bodies=job["bodies"])
    await getattr(load, job["kind"])(**job["options"])
    result = load.result
    json.dump(
        {
            "latencies": result.latencies,
            "statuses": result.statuses,
            "duration": result.duration,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    import resource

    import uvloop

    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(main())
