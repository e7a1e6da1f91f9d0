"""Claims the batches that are due, many in one transaction."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from django.conf import settings
from django.db import Error

from batching.store.claiming import Claim, ClaimRequest, claim_batches
from batching.store.recovery import undo_claims
from batching.store.threads import CONNECTION_ERRORS, DatabaseThreads
from chats.leases import renew_leases

logger = logging.getLogger("batching")

MAX_GROUP = 32
UNDO_PAUSE_S = 0.5

Pending = tuple[ClaimRequest, asyncio.Future[Claim]]


class Claimer:
    """Gathers claim requests while a transaction runs, and handles them in the next one."""

    def __init__(
        self,
        *,
        database: DatabaseThreads,
        owner: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._owner = owner
        self.clock = clock
        self._pending: asyncio.Queue[Pending] = asyncio.Queue()
        # The ids of the chats that a pending or running transaction will claim.
        self.claiming: set[int] = set()
        self._newest_batch = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def claim(self, request: ClaimRequest) -> Claim:
        """Returns an empty claim if the database fails. Then the sweep finds the rows again."""
        claimed: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        ids = {item.id for item in request.planned.items}
        self.claiming |= ids
        self._idle.clear()
        self._pending.put_nowait((request, claimed))
        try:
            return await claimed
        finally:
            self.claiming -= ids

    async def settle(self) -> None:
        """Returns when no transaction runs or is to come, even for claims that nobody awaits."""
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            group = [await self._pending.get()]
            while len(group) < MAX_GROUP and not self._pending.empty():
                group.append(self._pending.get_nowait())
            try:
                await self._claim_group(group)
            finally:
                if self._pending.empty():
                    self._idle.set()

    async def _claim_group(self, group: Sequence[Pending]) -> None:
        requests, in_doubt = [request for request, _ in group], set[int]()
        claims: Sequence[Claim] = [Claim()] * len(group)
        try:
            claims = await self._claim(requests)
            ids = [claim.batch.id for claim in claims if claim.batch is not None]
            self._newest_batch = max([self._newest_batch, *ids])
        except Error:
            items = [item for request in requests for item in request.planned.items]
            in_doubt = {item.id for item in items}
            logger.exception(
                "Batches could not be claimed. The sweep will find their requests again.",
                extra={"request_ids": [item.request_id for item in items]},
            )
        finally:
            for (_, claimed), claim in zip(group, claims, strict=True):
                if not claimed.done():
                    claimed.set_result(claim)
        while in_doubt:  # The claim may be committed nevertheless.
            try:
                newest = self._newest_batch
                await self._database.run(undo_claims, in_doubt, owner=self._owner, newest=newest)
                in_doubt = set()
            except CONNECTION_ERRORS:
                await asyncio.sleep(UNDO_PAUSE_S)

    async def _claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Claim]:
        """Leaves out batches that were lost again before the database confirmed the claim."""
        began = self.clock()
        claims = await self._database.run(claim_batches, requests, owner=self._owner)
        if self.clock() - began < settings.LEASE_S / 2:
            return claims
        ids = [pk for claim in claims for pk in claim.requesters]
        held = await self._database.run(renew_leases, ids, owner=self._owner)
        return [claim if claim.requesters.keys() <= held.keys() else Claim() for claim in claims]
