"""Eight requests at once against a running gateway: who shared a batch, and was that right?"""

from typing import Any

from batching.smoke_test.client import RehearsalClient
from batching.smoke_test.command import RehearsalCommand
from batching.smoke_test.rules import judge_batches

SENT = ["HIGH"] * 3 + ["MEDIUM"] * 3 + ["LOW"] * 2


class Command(RehearsalCommand):
    help = (
        "Sends 3 HIGH, 3 MEDIUM and 2 LOW requests to a running gateway and shows who shared which"
        " batch. Ends with status 1 if the batches are not as the gateway's rules say."
    )
    name = "quick-batch-test"

    async def rehearse(self, client: RehearsalClient, options: dict[str, Any]) -> list[str]:
        rules = await client.read_rules()
        self.stdout.write(f"{len(SENT)} requests as {client.username} to {options['url']}")
        for priority, rule in rules.items():
            self.stdout.write(f"  {priority:6} window {rule.window_s:g} s, at most {rule.room}")
        replies = await client.send(SENT)
        self.write_table(replies)
        findings = judge_batches(replies, rules)
        self.write_findings(replies, findings)
        return findings
