"""Claims the batches that are due, many in one transaction."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db import DatabaseError

from batching.store.claiming import Claim, ClaimRequest, claim_batches
from batching.store.threads import DatabaseThreads

logger = logging.getLogger("batching")

MAX_GROUP = 32


@dataclass(frozen=True, slots=True)
class _Pending:
    request: ClaimRequest
    claimed: asyncio.Future[Claim] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Claimer:
    """While one transaction runs, the requests for the next one gather."""

    def __init__(self, *, database: DatabaseThreads, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._pending: list[_Pending] = []
        self._arrived = asyncio.Event()
        self.claiming: set[int] = set()
        """the chats whose claim is under way"""

    async def claim(self, request: ClaimRequest) -> Claim:
        """An empty claim if the database failed: then the rows wait on, and the sweep sees them."""
        pending = _Pending(request)
        ids = {item.id for item in request.planned.items}
        self.claiming |= ids
        self._pending.append(pending)
        self._arrived.set()
        try:
            return await pending.claimed
        finally:
            self.claiming -= ids

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            group = self._pending[:MAX_GROUP]
            del self._pending[: len(group)]
            if not self._pending:
                self._arrived.clear()
            claims: Sequence[Claim] = [Claim()] * len(group)
            try:
                claims = await self._database.run(
                    claim_batches,
                    [pending.request for pending in group],
                    owner=self._owner,
                    now=datetime.now(UTC),
                )
            except DatabaseError:
                items = [item for pending in group for item in pending.request.planned.items]
                logger.exception(
                    "Batches could not be claimed; the sweep will see them again.",
                    extra={"request_ids": [item.request_id for item in items]},
                )
            finally:
                for pending, claim in zip(group, claims, strict=True):
                    if not pending.claimed.done():
                        pending.claimed.set_result(claim)
