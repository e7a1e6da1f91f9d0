"""Sends eight requests at once to a running gateway, and checks which ones shared a batch."""

from typing import Any

from batching.smoke_test.client import SmokeTestClient
from batching.smoke_test.command import SmokeTestCommand
from batching.smoke_test.rules import check_batches

SENT = ["HIGH"] * 3 + ["MEDIUM"] * 3 + ["LOW"] * 2


class Command(SmokeTestCommand):
    help = (
        "Sends 3 HIGH, 3 MEDIUM and 2 LOW requests to a running gateway and shows which of them"
        " shared a batch. Ends with status 1 if the batches violate the gateway's rules."
    )
    name = "quick-batch-test"

    async def run_test(self, client: SmokeTestClient, options: dict[str, Any]) -> list[str]:
        rules = await client.read_rules()
        self.stdout.write(f"{len(SENT)} requests as {client.username} to {options['url']}")
        for priority, rule in rules.items():
            self.stdout.write(f"  {priority:6} window {rule.window_s:g} s, at most {rule.capacity}")
        replies = await client.send(SENT)
        self.write_table(replies)
        findings = check_batches(replies, rules)
        self.write_findings(replies, findings)
        return findings
