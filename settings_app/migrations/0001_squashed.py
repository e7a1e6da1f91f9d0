import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.core.management.color import no_style
from django.db import migrations, models


LANES = [
    (2, 0.2, 6, 1000, 500, "Short and fast: answer in a few sentences, the essential only."),
    (1, 1.0, 4, 5000, 2000, "Balanced: answer completely, without digressions."),
    (0, 4.0, 4, 10_000, 5000, "Detailed and long: explain thoroughly, with examples where they help."),
]


def create_rows(apps, schema_editor):
    apps.get_model("settings_app", "GatewaySettings").objects.get_or_create(pk=1)
    apps.get_model("settings_app", "ApiClient").objects.get_or_create(
        pk=1, defaults={"name": "open access"}
    )
    lane = apps.get_model("settings_app", "Lane")
    for priority, window_s, max_batch, tokens, latency_ms, style in LANES:
        lane.objects.get_or_create(
            priority=priority,
            defaults={
                "window_s": window_s,
                "max_batch": max_batch,
                "tokens": tokens,
                "latency_ms": latency_ms,
                "max_queue": 10_000,
                "batch_scope": "everyone",
                "style": style,
            },
        )


def advance_sequence(apps, schema_editor):
    """Postgres does not count the id that the client of open access was created with."""
    models = [apps.get_model("settings_app", "ApiClient")]
    for statement in schema_editor.connection.ops.sequence_reset_sql(no_style(), models):
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ('settings_app', '0001_initial'),
        ('settings_app', '0002_defaults'),
        ('settings_app', '0003_api_keys'),
        ('settings_app', '0004_suspects'),
        ('settings_app', '0005_settings_change'),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ApiClient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name': 'API client',
            },
        ),
        migrations.CreateModel(
            name='GatewaySettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('api_key_encrypted', models.TextField(blank=True, default='', editable=False)),
                ('model', models.CharField(blank=True, default='', max_length=100)),
                ('retention_days', models.PositiveIntegerField(default=90, help_text='Older chats, batches and model calls are deleted; 0 keeps them for ever. The figures per day stay.', validators=[django.core.validators.MaxValueValidator(36500)], verbose_name='retention (days)')),
                ('store_prompts', models.BooleanField(default=True, help_text='Off: prompts and raw replies are not kept once a request has ended. Answers are, until the retention takes them.')),
                ('version', models.PositiveBigIntegerField(default=1, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'verbose_name': 'gateway settings',
                'verbose_name_plural': 'gateway settings',
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='gateway_settings_is_one_row'), models.CheckConstraint(condition=models.Q(('retention_days__lte', 36500)), name='retention_in_range')],
            },
        ),
        migrations.CreateModel(
            name='Lane',
            fields=[
                ('priority', models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')], editable=False, primary_key=True, serialize=False)),
                ('window_s', models.FloatField(validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(3600)], verbose_name='window (s)')),
                ('max_batch', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100)], verbose_name='max batch')),
                ('tokens', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(65536)], verbose_name='tokens per answer')),
                ('latency_ms', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3600000)], verbose_name='latency target (ms)')),
                ('max_queue', models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000000)], verbose_name='max queue')),
                ('batch_scope', models.CharField(choices=[('everyone', 'Everyone'), ('client', 'One client'), ('username', 'One username')], default='everyone', max_length=8)),
                ('hold_until_checked', models.BooleanField(default=False, help_text="Answers go out only when the whole reply was read and checked for signs that one prompt of the batch reached into another's answer. Slower by the reply's length.")),
                ('style', models.TextField(max_length=2000, verbose_name='style (the instruction to the model)')),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'ordering': ['-priority'],
                'constraints': [models.CheckConstraint(condition=models.Q(('priority__in', [2, 1, 0])), name='lane_priority_known'), models.CheckConstraint(condition=models.Q(('window_s__gte', 0), ('window_s__lte', 3600)), name='lane_window_in_range'), models.CheckConstraint(condition=models.Q(('max_batch__gte', 1), ('max_batch__lte', 100)), name='lane_max_batch_in_range'), models.CheckConstraint(condition=models.Q(('tokens__gte', 1), ('tokens__lte', 65536)), name='lane_tokens_in_range'), models.CheckConstraint(condition=models.Q(('latency_ms__gte', 1), ('latency_ms__lte', 3600000)), name='lane_latency_in_range'), models.CheckConstraint(condition=models.Q(('max_queue__gte', 1), ('max_queue__lte', 1000000)), name='lane_max_queue_in_range'), models.CheckConstraint(condition=models.Q(('batch_scope__in', ['everyone', 'client', 'username'])), name='lane_batch_scope_known')],
            },
        ),
        migrations.CreateModel(
            name='SettingsChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('changed_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ('by', models.CharField(max_length=200)),
                ('via', models.CharField(choices=[('admin', 'Admin'), ('api', 'API'), ('command', 'Command')], max_length=7)),
                ('subject', models.CharField(db_index=True, max_length=100)),
                ('field', models.CharField(max_length=50)),
                ('before', models.TextField(blank=True)),
                ('after', models.TextField(blank=True)),
            ],
            options={
                'verbose_name': 'change of the settings',
                'verbose_name_plural': 'changes of the settings',
                'ordering': ['-id'],
                'constraints': [models.CheckConstraint(condition=models.Q(('via__in', ['admin', 'api', 'command'])), name='change_via_known')],
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.CharField(editable=False, max_length=150, primary_key=True, serialize=False, unique=True)),
                ('prefix', models.CharField(editable=False, max_length=8, unique=True)),
                ('hashed_key', models.CharField(editable=False, max_length=150)),
                ('created', models.DateTimeField(auto_now_add=True, db_index=True)),
                ('name', models.CharField(default=None, help_text='A free-form name for the API key. Need not be unique. 50 characters max.', max_length=50)),
                ('revoked', models.BooleanField(blank=True, default=False, help_text='If the API key is revoked, clients cannot use it anymore. (This cannot be undone.)')),
                ('expiry_date', models.DateTimeField(blank=True, help_text='Once API key expires, clients cannot use it anymore.', null=True, verbose_name='Expires')),
                ('owner', models.CharField(blank=True, help_text='who answers for it', max_length=200)),
                ('is_staff', models.BooleanField(default=False, help_text='May read analytics, and read and change the settings.', verbose_name='staff')),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, help_text='How many prompts it may send within any minute. Empty: as many as it likes.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)])),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('client', models.ForeignKey(blank=True, help_text="Empty: a new client with the key's name.", on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='settings_app.apiclient')),
            ],
            options={
                'verbose_name': 'API key',
                'verbose_name_plural': 'API keys',
                'ordering': ('-created',),
                'abstract': False,
                'constraints': [models.CheckConstraint(condition=models.Q(('requests_per_minute__isnull', True), ('requests_per_minute__gte', 1), _connector='OR'), name='api_key_limit_is_positive')],
            },
        ),
        migrations.RunPython(create_rows, migrations.RunPython.noop),
        migrations.RunPython(advance_sequence, migrations.RunPython.noop),
    ]
