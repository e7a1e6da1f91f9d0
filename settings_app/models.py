"""The settings that staff may change at run time, their history, and the API keys."""

from django.core.validators import BaseValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from rest_framework_api_key.models import AbstractAPIKey

OPEN_ACCESS_CLIENT_ID = 1
MAX_RETENTION_DAYS = 36_500


def _limits(lowest: int, highest: int) -> list[BaseValidator]:
    return [MinValueValidator(lowest), MaxValueValidator(highest)]


def _within(name: str, field: str, lowest: int, highest: int) -> models.CheckConstraint:
    condition = Q((f"{field}__gte", lowest), (f"{field}__lte", highest))
    return models.CheckConstraint(condition=condition, name=name)


class Priority(models.IntegerChoices):
    HIGH = 2, "High"
    MEDIUM = 1, "Medium"
    LOW = 0, "Low"


class BatchScope(models.TextChoices):
    """Whose prompts may share one model call."""

    EVERYONE = "everyone", "Everyone"
    CLIENT = "client", "One client"
    USERNAME = "username", "One username"


class GatewaySettings(models.Model):
    """The only row of settings that belong to no lane; every change increases `version`."""

    api_key_encrypted = models.TextField(blank=True, default="", editable=False)
    model = models.CharField(max_length=100, blank=True, default="")
    retention_days = models.PositiveIntegerField(
        "retention (days)",
        default=90,
        validators=[MaxValueValidator(MAX_RETENTION_DAYS)],
        help_text="Older chats, batches and model calls are deleted; 0 keeps them without limit."
        " The figures per day are kept.",
    )
    store_prompts = models.BooleanField(
        default=True,
        help_text="Off: prompts and raw replies are deleted when a request ends."
        " Answers are kept until the retention deletes them.",
    )
    version = models.PositiveBigIntegerField(default=1, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "gateway settings"
        verbose_name_plural = "gateway settings"
        constraints = [
            models.CheckConstraint(condition=Q(pk=1), name="gateway_settings_is_one_row"),
            models.CheckConstraint(
                condition=Q(retention_days__lte=MAX_RETENTION_DAYS), name="retention_in_range"
            ),
        ]

    def __str__(self) -> str:
        return "Gateway settings"


class Lane(models.Model):
    """One priority's batching rules."""

    priority = models.SmallIntegerField(primary_key=True, choices=Priority, editable=False)
    window_s = models.FloatField("window (s)", validators=_limits(0, 3600))
    max_batch = models.PositiveIntegerField("max batch", validators=_limits(1, 100))
    tokens = models.PositiveIntegerField("tokens per answer", validators=_limits(1, 65_536))
    latency_ms = models.PositiveIntegerField(
        "latency target (ms)", validators=_limits(1, 3_600_000)
    )
    max_queue = models.PositiveIntegerField("max queue", validators=_limits(1, 1_000_000))
    queue_share = models.PositiveSmallIntegerField(
        "queue share (%)", default=50, validators=_limits(1, 100)
    )
    batch_scope = models.CharField(max_length=8, choices=BatchScope, default=BatchScope.EVERYONE)
    hold_until_checked = models.BooleanField(
        default=False,
        help_text="Answers are sent only after the whole reply was checked for text that one prompt"
        " of the batch left in another's answer. Each answer waits for the end of the reply.",
    )
    style = models.TextField("style (the instruction to the model)", max_length=2000)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-priority"]
        constraints = [
            models.CheckConstraint(
                condition=Q(priority__in=Priority.values), name="lane_priority_known"
            ),
            _within("lane_window_in_range", "window_s", 0, 3600),
            _within("lane_max_batch_in_range", "max_batch", 1, 100),
            _within("lane_tokens_in_range", "tokens", 1, 65_536),
            _within("lane_latency_in_range", "latency_ms", 1, 3_600_000),
            _within("lane_max_queue_in_range", "max_queue", 1, 1_000_000),
            _within("lane_queue_share_in_range", "queue_share", 1, 100),
            models.CheckConstraint(
                condition=Q(batch_scope__in=BatchScope.values), name="lane_batch_scope_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{Priority(self.priority).label} priority"


class Via(models.TextChoices):
    """The interface that a change was made with."""

    ADMIN = "admin", "Admin"
    API = "api", "API"
    COMMAND = "command", "Command"


class SettingsChange(models.Model):
    """One changed field. Rows are written with the change itself and never edited.

    For the model key only the masks are stored.
    """

    changed_at = models.DateTimeField(default=timezone.now, db_index=True)
    by = models.CharField(max_length=200)
    via = models.CharField(max_length=7, choices=Via)
    subject = models.CharField(max_length=100, db_index=True)
    field = models.CharField(max_length=50)
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "change of the settings"
        verbose_name_plural = "changes of the settings"
        constraints = [
            models.CheckConstraint(condition=Q(via__in=Via.values), name="change_via_known"),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.field}"


class ApiClient(models.Model):
    """The owner of requests. Under open access all requests belong to `OPEN_ACCESS_CLIENT_ID`."""

    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API client"

    def __str__(self) -> str:
        return self.name


class ApiKey(AbstractAPIKey):
    """An API key of a program, stored as a hash. Keys of one client see the same chats."""

    client = models.ForeignKey(
        ApiClient,
        on_delete=models.PROTECT,
        related_name="keys",
        blank=True,
        help_text="Leave empty for a new client with the key's name.",
    )
    owner = models.CharField(max_length=200, blank=True, help_text="Contact person")
    is_staff = models.BooleanField(
        "staff", default=False, help_text="May read analytics, and read and change the settings."
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=_limits(1, 100_000),
        help_text="Prompts that it may send in any minute. Leave empty for no limit.",
    )
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta(AbstractAPIKey.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(requests_per_minute__isnull=True) | Q(requests_per_minute__gte=1),
                name="api_key_limit_is_positive",
            ),
        ]
