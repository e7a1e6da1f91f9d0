"""The metrics of this process, and of every process of a fleet, in the formats of Prometheus."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Min
from django.db.models.functions import Now
from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics_format
from prometheus_client.parser import text_string_to_metric_families

from batching.engine.lanes import Priority
from batching.models import ALIVE_S, FORGOTTEN_S, ProcessNumbers
from batching.telemetry.metrics import REGISTRY
from chats.clock import CLOCK
from chats.models import Chat, Status

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Families:
    """Metric families for `generate_latest`. Families of the same name are merged."""

    def __init__(self) -> None:
        self._by_name: dict[str, Metric] = {}

    def add(self, families: Iterable[Metric], *, process: str | None = None) -> None:
        """Adds the samples of the families, with the name of the `process` as a label."""
        for family in families:
            merged = self._by_name.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = sample.labels if process is None else sample.labels | {"process": process}
                merged.add_sample(sample.name, labels, sample.value)

    def collect(self) -> Iterator[Metric]:
        return iter(self._by_name.values())


def report_numbers(name: str, gauges: list[Metric]) -> None:
    """Stores the metrics of this process for the /metrics of the other processes, and deletes
    those of processes that ended long ago."""
    families = Families()
    families.add([*REGISTRY.collect(), *gauges])
    text = generate_latest(families).decode()
    ProcessNumbers.objects.update_or_create(name=name, defaults={"text": text, "seen_at": Now()})
    ProcessNumbers.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGOTTEN_S)).delete()


def forget_numbers(name: str) -> None:
    ProcessNumbers.objects.filter(name=name).delete()


def expose(
    name: str, gauges: list[Metric], *, openmetrics: bool, fleet: bool, database: bool = True
) -> bytes:
    """Returns the current metrics of this process and the last stored ones of the others.

    Without the `database`, returns those of this process alone and raises no DatabaseError.
    """
    text = "1 if the database answered; if 0, the queue and the other processes are missing."
    families = Families()
    families.add([GaugeMetricFamily("llmbatch_database_up", text, value=database)])
    families.add([*REGISTRY.collect(), *gauges], process=name)
    if database:
        families.add(read_queue(now=CLOCK.now()))
    if database and fleet:
        alive = ProcessNumbers.objects.filter(seen_at__gt=Now() - timedelta(seconds=ALIVE_S))
        for other, text in alive.exclude(name=name).values_list("name", "text"):
            families.add(text_string_to_metric_families(text), process=other)
    return (openmetrics_format.generate_latest if openmetrics else generate_latest)(families)


def read_queue(*, now: datetime) -> list[Metric]:
    """Reads the depth and the age of the queue, which all processes share."""
    depth = GaugeMetricFamily(
        "llmbatch_queue_depth", "Requests that wait for a batch.", labels=["lane"]
    )
    age = GaugeMetricFamily(
        "llmbatch_queue_oldest_age_seconds",
        "How long the oldest queued request has waited; 0 without one.",
        labels=["lane"],
    )
    queued = Chat.objects.filter(status=Status.QUEUED).order_by().values_list("priority")
    found = {row[0]: row[1:] for row in queued.annotate(Count("pk"), Min("received_at"))}
    for lane in Priority:
        number, oldest = found.get(lane, (0, now))
        depth.add_metric([lane.name], number)
        age.add_metric([lane.name], max(0.0, (now - oldest).total_seconds()))
    return [depth, age]
