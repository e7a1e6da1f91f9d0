"""How the model is reached, for those who make no calls: without the SDK, half a second to load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

    from batching.llm.gemini import GeminiModel


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """How to reach the model. `transport`, where set, stands in for the network."""

    api_key: str | None = field(repr=False)
    base_url: str = ""
    api_version: str = "v1beta"
    transport: httpx2.AsyncBaseTransport | None = field(default=None, compare=True)


class LateModel:
    """The model of a process that runs no batches: it loads the SDK when the key is tested."""

    def __init__(self, read_access: Callable[[], ModelAccess]) -> None:
        self._read_access = read_access
        self._model: GeminiModel | None = None

    async def test_key(self, model: str) -> str:
        """As `GeminiModel.test_key`."""
        if self._model is None:
            gemini = await asyncio.to_thread(import_module, "batching.llm.gemini")
            self._model = gemini.GeminiModel(self._read_access)
        return await self._model.test_key(model)

    async def close(self) -> None:
        if self._model is not None:
            await self._model.close()
