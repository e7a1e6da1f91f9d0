"""Requests per second with storage on, against a hello-world application under the same Daphne."""

import time
from contextlib import contextmanager

import psutil

from bench.processes import GatewayProcess, gateway, hello_server, model_service, run_load
from bench.tables import count_failures, milliseconds, percentile, print_note, print_table

CLIENTS, SECONDS = 600, 10
HELLO_CLIENTS, HELLO_SECONDS = 64, 5
BATCHES_SQL = "SELECT count(*), sum(size) FROM batching_batch WHERE id > {}"
CALLS_SQL = "SELECT count(*) FROM batching_modelcall WHERE batch_id > {}"


def measure_saturation() -> None:
    before, hello_cpu = _saturate_hello()
    with model_service(0.3) as model, gateway(model) as server:
        run_load(server.url, "saturate", clients=CLIENTS, seconds=3)
        row, rate = _saturate_gateway(server)
    after, _ = _saturate_hello()
    floor = (before + after) / 2
    print_table(
        "Saturation: HIGH, storage on, model 0.3 s",
        [
            "requests/s",
            "hello/s (before, after)",
            "hello CPU",
            "ratio",
            "batches",
            "mean size",
            "model calls",
            "latency p50",
            "p99",
            "server CPU",
            "machine CPU",
            "failed",
        ],
        [
            [
                f"{rate:.0f}",
                f"{before:.0f}, {after:.0f}",
                f"{hello_cpu:.0%}",
                f"**{rate / floor:.2f}**",
                *row,
            ]
        ],
    )
    print_note(
        f"Closed loop of {CLIENTS} clients for {SECONDS} s after a warm-up; hello-world with"
        f" {HELLO_CLIENTS} clients. Load generator, model service and server share"
        f" {psutil.cpu_count()} cores. Two commits per batch, one per group of accepted requests."
    )


def _saturate_gateway(server: GatewayProcess) -> tuple[list[object], float]:
    ((last_batch,),) = server.query("SELECT max(id) FROM batching_batch")
    cpu_s = server.cpu_s()
    with _machine_cpu() as machine:
        result = run_load(server.url, "saturate", clients=CLIENTS, seconds=SECONDS)
    cpu = (server.cpu_s() - cpu_s) / result["duration"]
    ((batches, items),) = server.query(BATCHES_SQL.format(last_batch))
    ((calls,),) = server.query(CALLS_SQL.format(last_batch))
    latencies = result["latencies"].values()
    row = [
        batches,
        f"{items / batches:.2f}",
        calls,
        *(milliseconds(percentile(latencies, share)) for share in (0.5, 0.99)),
        f"{cpu:.0%}",
        f"{machine[0]:.0%}",
        count_failures(result),
    ]
    return row, len(latencies) / result["duration"]


def _saturate_hello() -> tuple[float, float]:
    """Requests/s, and the share of one core that the server used."""
    with hello_server() as server:
        run_load(server.url, "saturate", clients=HELLO_CLIENTS, seconds=1)
        cpu_s = server.cpu_s()
        result = run_load(server.url, "saturate", clients=HELLO_CLIENTS, seconds=HELLO_SECONDS)
        cpu_s = server.cpu_s() - cpu_s
    return len(result["latencies"]) / result["duration"], cpu_s / result["duration"]


@contextmanager
def _machine_cpu():
    """Yields a list that will hold the share of all cores that was busy inside the block."""
    shares: list[float] = []
    idle, began = psutil.cpu_times().idle, time.perf_counter()
    yield shares
    idle = psutil.cpu_times().idle - idle
    shares.append(1 - idle / ((time.perf_counter() - began) * psutil.cpu_count()))
