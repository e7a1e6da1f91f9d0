"""`/ws/live`: what happens in the machine at this moment."""

from batching.sockets.socket import Socket


async def watch(socket: Socket) -> None:
    async for _ in socket:
        await socket.send_error("invalid", "Nothing need be said here: only listen.")
