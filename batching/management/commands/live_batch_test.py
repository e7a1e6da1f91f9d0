"""Runs scenarios against a running gateway, and checks each by its rules."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batching.management.progress import progress_bar
from batching.smoke_test.client import Refused, SmokeTestClient, Unreachable
from batching.smoke_test.command import SmokeTestCommand
from batching.smoke_test.rules import (
    Reply,
    Rule,
    check_batches,
    describe_other_traffic,
    group_batches,
)

MIXED_PAUSE_S = 0.05
CHANGED_WINDOW_S, CHANGED_MAX = 0.5, 2
# Processes of a fleet read changed settings within a second.
SETTLE_S = 1.5
RESTORE_TRIES, RESTORE_PAUSE_S = 3, 0.5

Rules = Mapping[str, Rule]

# The priorities of the requests of each scenario. They are sent at once, except in "mixed load".
SCENARIOS: dict[str, Callable[[Rules], list[str]]] = {
    # One request less than a full batch: the batch leaves when its window ends.
    "window only": lambda rules: ["HIGH"] * max(1, rules["HIGH"].capacity - 1),
    # Exactly a full batch: the batch leaves at once, before its window ends.
    "size only": lambda rules: ["MEDIUM"] * rules["MEDIUM"].capacity,
    # One more than two full batches: the last request waits for its own window.
    "overflow": lambda rules: ["HIGH"] * (2 * rules["HIGH"].capacity + 1),
    # All priorities, one request every 50 ms: no batch mixes them or leaves before it is due.
    "mixed load": lambda rules: ["HIGH", "MEDIUM", "HIGH", "LOW"] * 8,
    # Many requests at once: they leave in full batches.
    "burst": lambda rules: ["HIGH"] * 60,
    # The next batches obey the changed window and size; then the old values are restored.
    "settings change": lambda rules: ["HIGH"] * (CHANGED_MAX + 1),
}


class NotRestored(Unreachable):
    """The settings could not be restored; the message names their old values."""


class Command(SmokeTestCommand):
    help = (
        "Runs scenarios against a running gateway: " + ", ".join(SCENARIOS) + ". Ends with status 1"
        " if the batches violate the gateway's rules."
    )
    name = "live-batch-test"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--only", choices=SCENARIOS, help="run only this scenario")
        parser.add_argument(
            "--no-settings-change", action="store_true", help="leave the settings as they are"
        )

    async def run_test(self, client: SmokeTestClient, options: dict[str, Any]) -> list[str]:
        rules = await client.read_rules()
        names = [options["only"]] if options["only"] else list(SCENARIOS)
        if options["no_settings_change"]:
            names = [name for name in names if name != "settings change"]
        if not names:
            raise CommandError("--only names the scenario that --no-settings-change leaves out.")
        total = sum(len(SCENARIOS[name](rules)) for name in names)
        self.stdout.write(f"{total} requests as {client.username} to {options['url']}")
        findings: list[str] = []
        with progress_bar("Testing", total=total, unit="requests") as bar:
            client.on_reply = lambda reply: bar.update(1)
            for name in names:
                try:
                    replies, found = await _run_scenario(name, client, rules)
                except Refused as error:
                    if name != "settings change":
                        raise
                    bar.clear()
                    self.stdout.write(self.style.WARNING(f"{name:16} left out. {error}"))
                    continue
                bar.clear()
                self._write_result(name, replies, found)
                findings += found
        return findings

    def _write_result(self, name: str, replies: list[Reply], findings: list[str]) -> None:
        batches = len(group_batches(replies))
        slowest = max((r.answer.latency_ms for r in replies if r.answer), default=0)
        verdict = "VIOLATES the rules" if findings else "obeys the rules"
        style = self.style.ERROR if findings else self.style.SUCCESS
        self.stdout.write(
            f"{name:16} {len(replies):3} requests, {batches:2} batches, slowest {slowest:5,} ms: "
            + style(verdict)
        )
        if findings:
            self.write_table(replies)
        self.write_findings(replies, findings)


async def _run_scenario(
    name: str, client: SmokeTestClient, rules: Rules
) -> tuple[list[Reply], list[str]]:
    priorities = SCENARIOS[name](rules)
    if name == "settings change":
        async with _changed_lane(client, old=rules["HIGH"]) as changed:
            replies = await client.send(priorities)
        return replies, check_batches(replies, changed)
    replies = await client.send(priorities, pause_s=MIXED_PAUSE_S if name == "mixed load" else 0)
    findings = check_batches(replies, rules)
    if name == "size only" and not findings:
        findings = _check_wait(replies, rules["MEDIUM"])
    return replies, findings


def _check_wait(replies: list[Reply], rule: Rule) -> list[str]:
    waited_s = max((batch.waited_s for batch in group_batches(replies)), default=0.0)
    cannot_judge = describe_other_traffic(replies) or rule.capacity < rule.max_batch
    if cannot_judge or not waited_s >= rule.window_s > 0:
        return []
    return [f"A full batch waited {waited_s:.2f} s instead of leaving at once."]


@asynccontextmanager
async def _changed_lane(client: SmokeTestClient, *, old: Rule) -> AsyncIterator[Rules]:
    """Yields the changed rules, and restores the old ones at the end.

    Raises Refused if they may not be changed, and NotRestored if they cannot be restored.
    """
    try:
        rules = await client.change_lane("HIGH", window_s=CHANGED_WINDOW_S, max_batch=CHANGED_MAX)
        await asyncio.sleep(SETTLE_S)
        yield rules | {"HIGH": replace(old, window_s=CHANGED_WINDOW_S, max_batch=CHANGED_MAX)}
    except Refused:
        raise  # Nothing was changed.
    except BaseException:
        await _restore_lane(client, old)
        raise
    else:
        await _restore_lane(client, old)


async def _restore_lane(client: SmokeTestClient, old: Rule) -> None:
    why = "they have other values"
    for attempt in range(RESTORE_TRIES):
        await asyncio.sleep(attempt * RESTORE_PAUSE_S)
        try:
            rules = await client.change_lane("HIGH", window_s=old.window_s, max_batch=old.max_batch)
        except Unreachable as error:
            why = str(error)
            continue
        now = rules["HIGH"]
        if (now.window_s, now.max_batch) == (old.window_s, old.max_batch):
            return
    raise NotRestored(
        f"HIGH's settings could not be restored: set window_s to {old.window_s:g} and max_batch to"
        f" {old.max_batch} again, in the admin or by PATCH /v1/settings. ({why})"
    )
