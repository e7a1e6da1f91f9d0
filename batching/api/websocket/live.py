"""`/ws/live`: what happens in the machine at this moment."""

from batching.live.feed import Feed
from batching.live.relay import LiveChannel, LocalEvents
from batching.process.runtime import Runtime, get_runtime
from batching.sockets.socket import Socket

NOTHING_TO_ASK = "There is nothing to ask here, only to hear."


async def watch(socket: Socket) -> None:
    async with find_feed(await get_runtime()).watched_by(socket):
        async for _ in socket:
            await socket.refuse_frame({"code": "invalid", "detail": NOTHING_TO_ASK})


def find_feed(runtime: Runtime) -> Feed:
    """The process's one, begun by its first watcher."""
    if runtime.feed is None:
        fleet = LiveChannel(layer=runtime.layer, send=runtime.sender.send)
        runtime.feed = Feed(
            database=runtime.database,
            capacity=lambda: runtime.fleet_status().capacity,
            source=fleet if runtime.shared else LocalEvents(),
        )
        runtime.supervisor.start("live", runtime.feed.run)
    return runtime.feed
