"""Two processes that write the same rows at once do not disturb each other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llmbatch.tests.fixtures.databases import ROOT, create_postgres, drop_postgres
from llmbatch.tests.fixtures.fleet import fleet_marks

pytestmark = fleet_marks()

NAMES = [f"r{number}" for number in range(10)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the scenarios of `two_connections` returned, by their names."""
    url = create_postgres()
    variables = {
        "DATABASE_URL": url,
        "REDIS_URL": "",
        "DJANGO_SETTINGS_MODULE": "llmbatch.settings",
    }
    variables["LOG_DIR"] = str(tmp_path_factory.mktemp("logs"))
    command = [sys.executable, "-m", "llmbatch.tests.fleet.two_connections"]
    try:
        printed = subprocess.check_output(command, cwd=ROOT, env=os.environ | variables, text=True)
        yield json.loads(printed.splitlines()[-1])
    finally:
        drop_postgres(url)


def test_same_ids_in_opposite_orders_cause_no_deadlock_and_no_refusal(outcomes: Any) -> None:
    found = outcomes["submit_in_opposite_orders"]
    assert found["results"] == [["Submission"] * 11] * 2
    assert found["waiters"] == dict.fromkeys(NAMES, 2) | {"one": 1, "two": 1}
    assert set(found["failures"]) <= {"IntegrityError"}, "the later group is stored again"


def test_requests_of_a_group_keep_their_order_whatever_their_ids(outcomes: Any) -> None:
    found = outcomes["submit_in_any_order"]
    assert found["results"] == ["Submission"] * 5
    assert found["stored"] == ["z", "b", "y", "a", "x"]


def test_group_that_another_transaction_ended_is_stored_again(outcomes: Any) -> None:
    found = outcomes["submit_during_a_deadlock"]
    # The group may get the first lock again before the other transaction wakes up.
    assert set(found["failures"]) == {"OperationalError"}
    assert found["results"] == ["Submission"] * 3


def test_worker_adds_no_rows_that_another_one_is_claiming(outcomes: Any) -> None:
    """It adds none at all to a batch whose planned rows the other one has locked."""
    found = outcomes["claim_at_once"]
    assert found["first"] == [[0, 1, 2, 3, 4, 5]]
    assert found["second"] == [[], [6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize(
    "scenario", ["renew_leases_while_chats_end", "store_an_answer_and_shares_of_others"]
)
def test_chats_are_locked_in_the_order_of_their_ids(outcomes: Any, scenario: str) -> None:
    assert outcomes[scenario]["failures"] == []
