"""One row per request and its answer; the table is also the durable queue."""

from django.db import models
from django.db.models import F, Q

from chats.timestamps import count_microseconds
from settings_app.models import OPEN_ACCESS_CLIENT_ID, Priority

# The columns `username` and `request_id` hold this many characters.
MAX_NAME_LENGTH = 200


class Status(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OPEN_STATUSES = (Status.QUEUED, Status.RUNNING)
FINAL_STATUSES = (Status.DONE, Status.FAILED, Status.CANCELLED, Status.EXPIRED)


class Chat(models.Model):
    """A request, its state, and its answer or its error.

    Timestamps are in UTC; `latency_ms` and `queue_ms` are measured with a monotonic clock.
    `tokens_used` and `usage` were sent to the client. The `settled_*` columns are this chat's share
    of the tokens of its model calls; the shares of a call add up exactly to its usage.
    """

    client = models.ForeignKey(
        "settings_app.ApiClient",
        on_delete=models.PROTECT,
        default=OPEN_ACCESS_CLIENT_ID,
        related_name="+",
        db_index=False,  # The unique constraint below begins with this column.
    )
    username = models.CharField(max_length=200)
    request_id = models.CharField(max_length=200)
    prompt = models.TextField()
    prompt_digest = models.CharField(
        max_length=64, default="", help_text="digest of a prompt that is not stored"
    )
    priority = models.SmallIntegerField(choices=Priority)
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)

    created_at = models.DateTimeField(
        help_text="as the client sent it, otherwise the time of acceptance"
    )
    received_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="when its window ends")
    deadline = models.DateTimeField(help_text="after this time the request expires")
    dispatched_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    batch = models.ForeignKey(
        "batching.Batch", null=True, on_delete=models.SET_NULL, related_name="chats"
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=64, default="", help_text="the worker that runs it")
    lease_until = models.DateTimeField(null=True)
    origin = models.CharField(
        max_length=64, default="", help_text="the process whose client waits for the answer"
    )

    streamed = models.BooleanField(
        default=False, help_text="a client reads the answer while it is written"
    )
    respond_async = models.BooleanField(
        default=False, help_text="a client reads the answer later, with GET"
    )
    waiters = models.PositiveSmallIntegerField(
        default=1, help_text="clients that wait for it; a respond-async request counts as one"
    )

    text = models.TextField(null=True)  # noqa: DJ001 - null is "no answer", which "" is not
    finish_reason = models.CharField(max_length=40, default="")
    tokens_used = models.PositiveIntegerField(null=True)
    usage = models.JSONField(null=True)
    latency_ms = models.PositiveIntegerField(null=True)
    queue_ms = models.PositiveIntegerField(null=True)
    error_code = models.CharField(max_length=40, default="")
    error_detail = models.TextField(default="")
    suspect = models.CharField(
        max_length=100,
        default="",
        help_text="why its answer may hold text of another prompt of its batch",
    )

    settled_prompt = models.PositiveIntegerField(default=0)
    settled_output = models.PositiveIntegerField(default=0)
    settled_thoughts = models.PositiveIntegerField(default=0)
    settled_cached = models.PositiveIntegerField(default=0)
    rolled_up = models.BooleanField(default=False, help_text="counted in DailyStat")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["client", "username", "request_id"], name="chat_request_once"
            ),
            models.CheckConstraint(
                condition=Q(priority__in=Priority.values), name="chat_priority_known"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="chat_status_known"),
            models.CheckConstraint(
                condition=~Q(status=Status.DONE) | (Q(text__isnull=False) & ~Q(text="")),
                name="chat_done_has_text",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=[Status.FAILED, Status.EXPIRED, Status.CANCELLED])
                | ~Q(error_code=""),
                name="chat_failed_has_code",
            ),
            models.CheckConstraint(
                condition=Q(deadline__gte=F("received_at")), name="chat_deadline_after_receipt"
            ),
        ]
        indexes = [
            models.Index(
                fields=["priority", "id"],
                condition=Q(status=Status.QUEUED),
                name="chat_queued",
            ),
            models.Index(
                fields=["lease_until"],
                condition=Q(status=Status.RUNNING),
                name="chat_running",
            ),
            models.Index(
                fields=["id"],
                # SQLite would not use this index for an IN condition with parameters.
                condition=Q(rolled_up=False) & ~Q(status=Status.QUEUED) & ~Q(status=Status.RUNNING),
                name="chat_not_rolled_up",
            ),
            models.Index(fields=["username", "id"], name="chat_username"),
            models.Index(fields=["client", "id"], name="chat_client"),
            models.Index(fields=["priority", "id"], name="chat_priority"),
            models.Index(fields=["status", "id"], name="chat_status"),
            models.Index(fields=["received_at"], name="chat_received"),
            models.Index(fields=["request_id"], name="chat_request_id"),
            models.Index(fields=["id"], condition=~Q(suspect=""), name="chat_suspect"),
        ]

    def __str__(self) -> str:
        return f"{self.username} / {self.request_id}"

    @property
    def generation(self) -> int:
        """Identifies one use of the row: sending a failed request again begins another one."""
        return count_microseconds(self.received_at)
