"""The model of a process that runs no batches: it loads the SDK when the key is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from batching.llm.access import ModelAccess

if TYPE_CHECKING:
    from batching.llm.gemini import GeminiModel


class LazyGeminiModel:
    """Creates its `GeminiModel` at the first test of the key."""

    def __init__(self, read_access: Callable[[], ModelAccess]) -> None:
        self._read_access = read_access
        self._model: GeminiModel | None = None

    async def test_key(self, model: str) -> str:
        """See `GeminiModel.test_key`."""
        if self._model is None:
            gemini = await asyncio.to_thread(import_module, "batching.llm.gemini")
            self._model = gemini.GeminiModel(self._read_access)
        return await self._model.test_key(model)

    async def close(self) -> None:
        if self._model is not None:
            await self._model.close()
