"""The numbers of this process, and in a fleet of every process, as Prometheus reads them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min
from django.db.models.functions import Now
from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from batching.engine.lanes import Priority
from batching.models import ALIVE_S, FORGOTTEN_S, ProcessNumbers
from batching.telemetry.metrics import REGISTRY
from chats.models import Chat, Status

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Families:
    """Metric families as `generate_latest` collects them; those of one name are one family."""

    def __init__(self) -> None:
        self._found: dict[str, Metric] = {}

    def add(self, families: Iterable[Metric], *, process: str | None = None) -> None:
        """With the name of their `process` as a label."""
        for family in families:
            known = self._found.get(family.name)
            if known is None:
                known = Metric(family.name, family.documentation, family.type)
                self._found[family.name] = known
            for sample in family.samples:
                labels = sample.labels if process is None else sample.labels | {"process": process}
                known.add_sample(sample.name, labels, sample.value)

    def collect(self) -> Iterator[Metric]:
        return iter(self._found.values())


class OwnNumbers:
    """Everything that this process counts, and its state at this moment."""

    def __init__(self, state: Iterable[Metric]) -> None:
        self._state = list(state)

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        yield from self._state


def report_numbers(name: str, state: list[Metric]) -> None:
    """For the scrapes that other processes answer; forgets those of processes long gone."""
    text = generate_latest(OwnNumbers(state)).decode()
    ProcessNumbers.objects.update_or_create(name=name, defaults={"text": text, "seen_at": Now()})
    ProcessNumbers.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGOTTEN_S)).delete()


def forget_numbers(name: str) -> None:
    ProcessNumbers.objects.filter(name=name).delete()


def expose(
    name: str, state: list[Metric], *, openly: bool, fleet: bool, database: bool = True
) -> bytes:
    """This process's numbers as they are, the others' as they reported them last.

    Without the `database` it is the process's own alone, and raises no DatabaseError.
    """
    families = Families()
    text = (
        "1 if the database answered for this scrape; without it the queue and others are missing."
    )
    families.add([GaugeMetricFamily("llmbatch_database_up", text, value=database)])
    families.add(OwnNumbers(state).collect(), process=name)
    if database:
        families.add(read_queue(now=datetime.now(UTC)))
    if database and fleet:
        alive = ProcessNumbers.objects.filter(seen_at__gt=Now() - timedelta(seconds=ALIVE_S))
        for other, text in alive.exclude(name=name).values_list("name", "text"):
            families.add(text_string_to_metric_families(text), process=other)
    return (openmetrics.generate_latest if openly else generate_latest)(families)


def read_queue(*, now: datetime) -> list[Metric]:
    """The queue of record, which is every process's."""
    depth = GaugeMetricFamily(
        "llmbatch_queue_depth", "Requests that wait for a batch.", labels=["lane"]
    )
    age = GaugeMetricFamily(
        "llmbatch_queue_oldest_age_seconds",
        "How long the oldest of them has waited; 0 if none waits.",
        labels=["lane"],
    )
    waiting = Chat.objects.filter(status=Status.QUEUED).order_by().values_list("priority")
    found = {row[0]: row[1:] for row in waiting.annotate(Count("pk"), Min("received_at"))}
    for lane in Priority:
        number, oldest = found.get(lane, (0, now))
        depth.add_metric([lane.name], number)
        age.add_metric([lane.name], max(0.0, (now - oldest).total_seconds()))
    return [depth, age]
