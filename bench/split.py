"""How much earlier answers arrive because each is released when its own value closes."""

from statistics import mean

from bench.processes import gateway, model_service, run_load
from bench.tables import count_failures, print_note, print_table

REPLY_S = 1.2
ROUNDS = 6
ITEMS = 6


def measure_split() -> None:
    early, failed = _answer_bursts("members")
    whole, failed_whole = _answer_bursts("whole")
    average, average_whole = mean(map(mean, early)), mean(map(mean, whole))
    rows = [
        [
            label,
            *(f"{mean(round_[k] for round_ in rounds):.2f} s" for k in range(ITEMS)),
            f"{mean(map(mean, rounds)):.2f} s",
            failures,
        ]
        for label, rounds, failures in (
            ("streamed, released early", early, failed),
            ("whole reply at once", whole, failed_whole),
        )
    ]
    rows.append(
        [
            "ratio",
            *(f"{mean(a[k] for a in early) / mean(b[k] for b in whole):.2f}" for k in range(ITEMS)),
            f"**{average / average_whole:.2f}**",
            "",
        ]
    )
    header = ["", *(f"answer {k + 1}" for k in range(ITEMS)), "mean", "failed"]
    print_table("Time to answer: early split against the whole reply", header, rows)
    print_note(
        f"{ROUNDS} batches of six HIGH requests sent together, a reply of {REPLY_S} s whose six"
        " members are streamed evenly, against a reply that arrives whole after that time. The"
        " ideal ratio of the means is (1 + ... + 6) / 36 = 0.58."
    )


def _answer_bursts(style: str) -> tuple[list[list[float]], int]:
    """Each round's latencies, in order of the answers."""
    rounds, failed = [], 0
    with model_service(REPLY_S, style) as model, gateway(model) as server:
        run_load(server.url, "burst", clients=ITEMS)
        for _ in range(ROUNDS):
            result = run_load(server.url, "burst", clients=ITEMS)
            rounds.append(sorted(result["latencies"].values()))
            failed += count_failures(result)
    return rounds, failed
