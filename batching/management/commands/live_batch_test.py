"""Scenarios against a running gateway, each judged by its rules."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from batching.progress import progress_bar
from batching.rehearsal import Reply, Rule, judge_replies
from batching.rehearsal_client import RehearsalClient, Unreachable
from batching.rehearsal_command import RehearsalCommand

BURST = 60
MIXED = ["HIGH", "MEDIUM", "HIGH", "LOW"] * 8
CHANGED_WINDOW_S, CHANGED_MAX = 0.5, 2

Rules = Mapping[str, Rule]
Scenario = Callable[[RehearsalClient, Rules], Awaitable[tuple[list[Reply], list[str]]]]


async def window_only(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """Fewer than fill a batch: it leaves when its window ends."""
    return await _send_at_once(client, rules, "HIGH", max(1, rules["HIGH"].max_batch - 1))


async def size_only(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """Exactly a full batch: it leaves at once, before its window ends."""
    rule = rules["MEDIUM"]
    replies, findings = await _send_at_once(client, rules, "MEDIUM", rule.max_batch)
    slowest_s = max(reply.queue_ms for reply in replies) / 1000
    if slowest_s >= rule.window_s > 0 and all(reply.status == 200 for reply in replies):
        findings.append(f"A full batch waited {slowest_s:.2f} s instead of leaving at once.")
    return replies, findings


async def overflow(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """One more than two full batches: the rest waits for its own window."""
    return await _send_at_once(client, rules, "HIGH", 2 * rules["HIGH"].max_batch + 1)


async def mixed_load(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """All priorities, some every moment: none mixes, none leaves before it is due."""
    replies = await client.send(MIXED, pause_s=0.05)
    return replies, judge_replies(replies, rules, username=client.username, at_once=False)


async def burst(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """Many at once: as few calls as can hold them."""
    return await _send_at_once(client, rules, "HIGH", BURST)


async def settings_change(client: RehearsalClient, rules: Rules) -> tuple[list[Reply], list[str]]:
    """The next batch obeys a changed window and size; the old values are restored."""
    old = rules["HIGH"]
    await client.change_lane("HIGH", window_s=CHANGED_WINDOW_S, max_batch=CHANGED_MAX)
    try:
        changed = {**rules, "HIGH": Rule(CHANGED_WINDOW_S, CHANGED_MAX)}
        return await _send_at_once(client, changed, "HIGH", CHANGED_MAX + 1)
    finally:
        await client.change_lane("HIGH", window_s=old.window_s, max_batch=old.max_batch)


SCENARIOS: dict[str, tuple[Scenario, Callable[[Rules], int]]] = {
    "window only": (window_only, lambda rules: max(1, rules["HIGH"].max_batch - 1)),
    "size only": (size_only, lambda rules: rules["MEDIUM"].max_batch),
    "overflow": (overflow, lambda rules: 2 * rules["HIGH"].max_batch + 1),
    "mixed load": (mixed_load, lambda rules: len(MIXED)),
    "burst": (burst, lambda rules: BURST),
    "settings change": (settings_change, lambda rules: CHANGED_MAX + 1),
}


class Command(RehearsalCommand):
    help = (
        "Runs scenarios against a running gateway: " + ", ".join(SCENARIOS) + ". Ends with status 1"
        " if the batches are not as the gateway's rules say."
    )
    bar: tqdm

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--only", choices=SCENARIOS, help="this scenario alone")
        parser.add_argument(
            "--no-settings-change", action="store_true", help="leave the settings as they are"
        )

    def hear(self, reply: Reply) -> None:
        self.bar.update(1)

    async def rehearse(self, client: RehearsalClient, options: dict[str, Any]) -> list[str]:
        rules = await client.read_rules()
        names = [options["only"]] if options["only"] else list(SCENARIOS)
        if options["no_settings_change"]:
            names = [name for name in names if name != "settings change"]
        total = sum(SCENARIOS[name][1](rules) for name in names)
        self.stdout.write(f"{total} requests as {client.username} to {options['url']}")
        findings: list[str] = []
        with progress_bar("Rehearsing", total=total, unit="requests") as self.bar:
            for name in names:
                findings += await self._play(name, client, rules)
        return findings

    async def _play(self, name: str, client: RehearsalClient, rules: Rules) -> list[str]:
        scenario = SCENARIOS[name][0]
        try:
            replies, findings = await scenario(client, rules)
        except Unreachable as error:
            if name != "settings change":
                raise
            self.stdout.write(self.style.WARNING(f"{name:16} left out: {error}"))
            return []
        batches = len({reply.batch_id for reply in replies if reply.status == 200})
        slowest = max(reply.latency_ms for reply in replies)
        verdict = "NOT as the rules say" if findings else "as the rules say"
        style = self.style.ERROR if findings else self.style.SUCCESS
        self.bar.clear()
        self.stdout.write(
            f"{name:16} {len(replies):3} requests, {batches:2} batches, slowest {slowest:5} ms: "
            + style(verdict)
        )
        if findings:
            self.write_table(replies)
        self.write_findings(replies, findings)
        return findings


async def _send_at_once(
    client: RehearsalClient, rules: Rules, priority: str, count: int
) -> tuple[list[Reply], list[str]]:
    replies = await client.send([priority] * count)
    return replies, judge_replies(replies, rules, username=client.username)
