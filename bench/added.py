"""The time that the gateway adds to the window and to the model's own time."""

from bench.processes import GatewayProcess, gateway, hello_server, model_service, run_load
from bench.tables import count_failures, milliseconds, percentile, print_note, print_table

MODEL_S = 0.3
RATES = (50, 200, 500)
SECONDS = 12
BODY = {"username": "bench", "prompt": "question @", "priority": "HIGH", "request_id": "r@"}
SQL = """
    SELECT request_id, "trigger",
           (julianday(received_at) - 2440587.5) * 86400.0,
           (julianday(max(received_at) OVER batch) - 2440587.5) * 86400.0,
           (julianday(min(due_at) OVER batch) - 2440587.5) * 86400.0,
           (julianday(batching_batch.created_at) - 2440587.5) * 86400.0,
           lateness_ms / 1000.0
    FROM chats_chat JOIN batching_batch ON batch_id = batching_batch.id
    WINDOW batch AS (PARTITION BY batch_id)
"""
FORMULA = """\
Open loop. `added = client latency - wait - model time` for each request; a whole reply of the model
takes exactly 0.3 s. `wait` is the wait that the rules require: until the batch's last request
arrived if it left full, else until its first `due_at`, and never below 0. So everything else counts
as added: HTTP, validation, both commits, timers, the channel layer, splitting, and the load
generator's own time. `added (claim)` uses `batch.created_at - chat.received_at -
batch.lateness_ms` as the wait instead, which excludes the time between arrival and claim. The
floor is the latency of a hello-world application under the same Daphne at the same rate."""


def measure_added() -> None:
    rows = []
    for rate in RATES:
        with hello_server() as hello:
            floor = list(run_load(hello.url, "offer", rate=rate, seconds=3)["latencies"].values())
        with model_service(MODEL_S) as model, gateway(model) as server:
            run_load(server.url, "offer", rate=rate, seconds=2)
            before = server.cpu_s()
            result = run_load(server.url, "offer", body=BODY, rate=rate, seconds=SECONDS)
            cpu = (server.cpu_s() - before) / result["duration"]
            strict, by_claim = _compute_added(server, result["latencies"])
        row = [f"{rate}/s", *_describe(strict), *_describe(by_claim), *_describe(floor)]
        rows.append([*row, f"{cpu:.0%}", count_failures(result)])
    print_table(
        "Time added beyond window and model, HIGH",
        [
            "offered",
            "added p50",
            "p99",
            "added (claim) p50",
            "p99",
            "hello p50",
            "p99",
            "server CPU",
            "failed",
        ],
        rows,
    )
    print_note(FORMULA)


def _compute_added(
    server: GatewayProcess, latencies: dict[int, float]
) -> tuple[list[float], list[float]]:
    strict, by_claim = [], []
    for request_id, trigger, received, last, due, claimed, lateness in server.query(SQL):
        if not request_id[1:].isdigit():
            continue
        beyond_model = latencies[int(request_id[1:])] - MODEL_S
        ideal = (last if trigger == "full" else due) - received
        strict.append(beyond_model - max(0.0, ideal))
        by_claim.append(beyond_model - max(0.0, claimed - received - lateness))
    return strict, by_claim


def _describe(values: list[float]) -> list[str]:
    return [milliseconds(percentile(values, share)) for share in (0.5, 0.99)]
