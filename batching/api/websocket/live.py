"""WS /ws/live: the state of the queue and the batches, as it changes."""

from batching.live.feed import Feed
from batching.live.relay import LiveChannel, LocalEvents
from batching.process.runtime import Runtime, get_runtime
from batching.sockets.socket import Socket

NO_FRAMES = "This socket only sends; it accepts no frames."


async def watch(socket: Socket) -> None:
    async with find_feed(await get_runtime()).watched_by(socket):
        async for _ in socket:
            await socket.refuse_frame({"code": "invalid", "detail": NO_FRAMES})


def find_feed(runtime: Runtime) -> Feed:
    """Returns the process's one feed; the first watcher starts it."""
    if runtime.feed is None:
        fleet = LiveChannel(layer=runtime.layer, send=runtime.send)
        runtime.feed = Feed(
            database=runtime.database,
            capacity=lambda: runtime.fleet_status().capacity,
            source=fleet if runtime.shared else LocalEvents(),
        )
        runtime.supervisor.start("live", runtime.feed.run)
    return runtime.feed
