"""Readiness is checked once for all probes that come meanwhile."""

import asyncio

import pytest

from llmbatch import health


async def test_probes_at_the_same_time_share_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[dict[str, str]] = []

    async def check() -> dict[str, str]:
        checks.append({"database": ""})
        await asyncio.sleep(0)
        return checks[-1]

    monkeypatch.setattr(health, "_check_parts", check)
    answers = await asyncio.gather(*(health.check_parts() for _ in range(10)))
    assert answers == checks * 10
    await health.check_parts()
    assert len(checks) == 2, "the next probe sees the state of its own time"
