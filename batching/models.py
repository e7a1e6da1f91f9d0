"""Batches, model calls, their statistics per day, and the processes of a fleet."""

from django.db import models
from django.db.models import Q

from settings_app.models import Priority

# A process of a fleet that has not reported for this long counts as dead.
ALIVE_S = 5.0
# The row of a process that has not reported for this long is deleted.
FORGOTTEN_S = 3600.0


class Trigger(models.TextChoices):
    """Why a batch left: it was full, or the window of its oldest request had ended."""

    FULL = "full"
    WINDOW = "window"


class Outcome(models.TextChoices):
    RUNNING = "running"
    DONE = "done", "every request answered"
    PARTIAL = "partial", "some requests failed"
    FAILED = "failed", "every request failed"


class CallKind(models.TextChoices):
    COMBINED = "combined"
    SINGLE = "single"


class CallStatus(models.TextChoices):
    STARTED = "started"
    COMPLETE = "complete", "the reply was read to its end"
    FAILED = "failed"


class Batch(models.Model):
    """Requests of one priority that left the queue together, in one claim.

    `settings` is the rule of the lane at the claim. `lateness_ms` is the time from the end of the
    window to the claim, on the planner's clock; 0 for a batch that left full.
    """

    priority = models.SmallIntegerField(choices=Priority)
    trigger = models.CharField(max_length=6, choices=Trigger)
    size = models.PositiveSmallIntegerField()
    model = models.CharField(max_length=100)
    settings = models.JSONField()
    owner = models.CharField(max_length=64, default="")
    lateness_ms = models.FloatField(default=0)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=7, choices=Outcome, default=Outcome.RUNNING)
    rolled_up = models.BooleanField(default=False, help_text="counted in DailyStat")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(condition=Q(size__gte=1), name="batch_not_empty"),
            models.CheckConstraint(
                condition=Q(priority__in=Priority.values), name="batch_priority_known"
            ),
            models.CheckConstraint(
                condition=Q(outcome__in=Outcome.values), name="batch_outcome_known"
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="batch_created"),
            models.Index(fields=["priority", "id"], name="batch_priority"),
            models.Index(fields=["outcome", "id"], name="batch_outcome"),
            models.Index(
                fields=["id"],
                condition=Q(rolled_up=False) & ~Q(outcome=Outcome.RUNNING),
                name="batch_not_rolled_up",
            ),
        ]

    def __str__(self) -> str:
        return f"batch {self.pk}"


class ModelCall(models.Model):
    """One call to the model. Its row is written before the call is made.

    `item_ids` are the chats of the call, in the order of its keys. Token counts are null until the
    call ends; `estimated` marks counts that the model did not report at the end of its reply.
    `perhaps_billed` marks a call that broke off but may have been counted.
    """

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="calls")
    priority = models.SmallIntegerField(choices=Priority, help_text="of its batch")
    kind = models.CharField(max_length=8, choices=CallKind)
    attempt = models.PositiveSmallIntegerField()
    model = models.CharField(max_length=100)
    item_ids = models.JSONField()
    prompt = models.TextField(default="")
    reply = models.TextField(default="")
    status = models.CharField(max_length=8, choices=CallStatus, default=CallStatus.STARTED)
    finish_reason = models.CharField(max_length=40, default="")
    error_code = models.CharField(max_length=40, default="")
    error_detail = models.TextField(default="")
    perhaps_billed = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(null=True)
    thoughts_tokens = models.PositiveIntegerField(null=True)
    cached_tokens = models.PositiveIntegerField(null=True)
    estimated = models.BooleanField(default=False, help_text="its token counts are estimates")
    started_at = models.DateTimeField()
    first_token_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField(null=True)
    rolled_up = models.BooleanField(default=False, help_text="counted in DailyStat")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=CallStatus.values), name="model_call_status_known"
            ),
        ]
        indexes = [
            models.Index(fields=["started_at"], name="model_call_started"),
            # For the admin's filters: without an index the database reads every stored prompt.
            models.Index(fields=["status", "id"], name="model_call_status"),
            models.Index(fields=["kind", "id"], name="model_call_kind"),
            models.Index(fields=["priority", "id"], name="model_call_priority"),
            models.Index(
                fields=["id"], condition=Q(perhaps_billed=True), name="model_call_perhaps_billed"
            ),
            models.Index(
                fields=["id"],
                condition=Q(rolled_up=False) & ~Q(status=CallStatus.STARTED),
                name="model_call_not_rolled_up",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} call {self.pk}"


class DailyStat(models.Model):
    """The figures of one lane on one UTC day, so that analytics need not read the history.

    Requests count on the day they were received, batches on the day they were claimed, calls on the
    day they started. `latency_hist` and `queue_hist` map the number of a bucket to a count;
    `failures` maps an error code to a count.
    """

    day = models.DateField()
    priority = models.SmallIntegerField(choices=Priority)
    requests = models.PositiveBigIntegerField(default=0)
    answered = models.PositiveBigIntegerField(default=0)
    in_time = models.PositiveBigIntegerField(default=0, help_text="answered within latency_ms")
    batches = models.PositiveBigIntegerField(default=0)
    batched_requests = models.PositiveBigIntegerField(default=0)
    fill_requests = models.PositiveBigIntegerField(
        default=0, help_text="requests of batches whose maximum is known"
    )
    fill_capacity = models.PositiveBigIntegerField(
        default=0, help_text="sum of the maximum sizes of those batches when they left"
    )
    model_calls = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    thoughts_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    latency_ms_sum = models.PositiveBigIntegerField(default=0)
    queue_ms_sum = models.PositiveBigIntegerField(default=0)
    latency_hist = models.JSONField(default=dict)
    queue_hist = models.JSONField(default=dict)
    failures = models.JSONField(default=dict)
    rows_deleted = models.BooleanField(
        default=False, help_text="rows that are counted here were deleted since"
    )

    class Meta:
        ordering = ["day", "-priority"]
        constraints = [
            models.UniqueConstraint(fields=["day", "priority"], name="daily_stat_once"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {Priority(self.priority).label}"


class ProcessNumbers(models.Model):
    """The metrics of one process of a fleet, as it reported them last.

    `seen_at` is the time of the report on the database's clock.
    """

    name = models.CharField(max_length=40, primary_key=True, help_text="the same after a restart")
    seen_at = models.DateTimeField()
    text = models.TextField(help_text="in the text format of Prometheus")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """A process of a fleet that runs batches, and the capacity that it reported last.

    `seen_at` is the time of the report on the database's clock.
    """

    owner = models.CharField(max_length=64, primary_key=True, help_text="as in its batches")
    seen_at = models.DateTimeField()
    slots = models.PositiveIntegerField(help_text="model calls at once")
    reserve = models.PositiveIntegerField(help_text="of these, reserved for HIGH")
    call_s = models.JSONField(default=list, help_text="durations of recent calls, by priority")
    paused_s = models.FloatField(
        default=0, help_text="how long the circuit breaker lets no call start"
    )
    down = models.BooleanField(default=False, help_text="the probe after the pause failed, too")

    class Meta:
        ordering = ["owner"]

    def __str__(self) -> str:
        return self.owner
