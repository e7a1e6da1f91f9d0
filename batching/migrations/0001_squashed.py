import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ('batching', '0001_initial'),
        ('batching', '0002_worker'),
        ('batching', '0003_process_numbers'),
        ('batching', '0004_fill'),
        ('batching', '0005_call_priority'),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ProcessNumbers',
            fields=[
                ('name', models.CharField(help_text='stays over restarts', max_length=40, primary_key=True, serialize=False)),
                ('seen_at', models.DateTimeField()),
                ('text', models.TextField(help_text="in Prometheus' text format")),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Worker',
            fields=[
                ('owner', models.CharField(help_text='as in its batches', max_length=64, primary_key=True, serialize=False)),
                ('seen_at', models.DateTimeField()),
                ('slots', models.PositiveIntegerField(help_text='model calls at once')),
                ('reserve', models.PositiveIntegerField(help_text="of them HIGH's own")),
                ('call_s', models.JSONField(default=list, help_text='what recent calls took, by priority')),
                ('paused_s', models.FloatField(default=0, help_text='how long it leaves the failing model service alone')),
                ('down', models.BooleanField(default=False, help_text='the service failed on a probe too')),
            ],
            options={
                'ordering': ['owner'],
            },
        ),
        migrations.CreateModel(
            name='Batch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('priority', models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')])),
                ('trigger', models.CharField(choices=[('full', 'Full'), ('window', 'Window')], max_length=6)),
                ('size', models.PositiveSmallIntegerField()),
                ('model', models.CharField(max_length=100)),
                ('settings', models.JSONField()),
                ('owner', models.CharField(default='', max_length=64)),
                ('lateness_ms', models.FloatField(default=0)),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
                ('outcome', models.CharField(choices=[('running', 'Running'), ('done', 'every request answered'), ('partial', 'some requests failed'), ('failed', 'every request failed')], default='running', max_length=7)),
                ('folded', models.BooleanField(default=False, help_text='counted in DailyStat')),
            ],
            options={
                'verbose_name_plural': 'batches',
                'ordering': ['id'],
                'indexes': [models.Index(fields=['created_at'], name='batch_created'), models.Index(fields=['priority', 'id'], name='batch_priority'), models.Index(fields=['outcome', 'id'], name='batch_outcome'), models.Index(condition=models.Q(('folded', False), models.Q(('outcome', 'running'), _negated=True)), fields=['id'], name='batch_unfolded')],
                'constraints': [models.CheckConstraint(condition=models.Q(('size__gte', 1)), name='batch_not_empty'), models.CheckConstraint(condition=models.Q(('priority__in', [2, 1, 0])), name='batch_priority_known'), models.CheckConstraint(condition=models.Q(('outcome__in', ['running', 'done', 'partial', 'failed'])), name='batch_outcome_known')],
            },
        ),
        migrations.CreateModel(
            name='DailyStat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('priority', models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')])),
                ('requests', models.PositiveBigIntegerField(default=0)),
                ('answered', models.PositiveBigIntegerField(default=0)),
                ('in_time', models.PositiveBigIntegerField(default=0, help_text='answered within latency_ms')),
                ('batches', models.PositiveBigIntegerField(default=0)),
                ('batched_requests', models.PositiveBigIntegerField(default=0)),
                ('placed_requests', models.PositiveBigIntegerField(default=0, help_text='requests of batches whose maximum is known')),
                ('places', models.PositiveBigIntegerField(default=0, help_text='how many those batches could have held when they left')),
                ('model_calls', models.PositiveBigIntegerField(default=0)),
                ('prompt_tokens', models.PositiveBigIntegerField(default=0)),
                ('output_tokens', models.PositiveBigIntegerField(default=0)),
                ('thoughts_tokens', models.PositiveBigIntegerField(default=0)),
                ('cached_tokens', models.PositiveBigIntegerField(default=0)),
                ('latency_ms_sum', models.PositiveBigIntegerField(default=0)),
                ('queue_ms_sum', models.PositiveBigIntegerField(default=0)),
                ('latency_hist', models.JSONField(default=dict)),
                ('queue_hist', models.JSONField(default=dict)),
                ('failures', models.JSONField(default=dict)),
            ],
            options={
                'ordering': ['day', '-priority'],
                'constraints': [models.UniqueConstraint(fields=('day', 'priority'), name='daily_stat_once')],
            },
        ),
        migrations.CreateModel(
            name='ModelCall',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('priority', models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')], db_default=1, help_text="its batch's")),
                ('kind', models.CharField(choices=[('combined', 'Combined'), ('single', 'Single')], max_length=8)),
                ('attempt', models.PositiveSmallIntegerField()),
                ('model', models.CharField(max_length=100)),
                ('item_ids', models.JSONField()),
                ('prompt', models.TextField(default='')),
                ('reply', models.TextField(default='')),
                ('status', models.CharField(choices=[('started', 'Started'), ('complete', 'the reply was read to its end'), ('failed', 'Failed')], default='started', max_length=8)),
                ('finish_reason', models.CharField(default='', max_length=40)),
                ('error_code', models.CharField(default='', max_length=40)),
                ('error_detail', models.TextField(default='')),
                ('perhaps_billed', models.BooleanField(default=False)),
                ('prompt_tokens', models.PositiveIntegerField(null=True)),
                ('output_tokens', models.PositiveIntegerField(null=True)),
                ('thoughts_tokens', models.PositiveIntegerField(null=True)),
                ('cached_tokens', models.PositiveIntegerField(null=True)),
                ('started_at', models.DateTimeField()),
                ('first_token_ms', models.PositiveIntegerField(null=True)),
                ('duration_ms', models.PositiveIntegerField(null=True)),
                ('folded', models.BooleanField(default=False, help_text='counted in DailyStat')),
                ('batch', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='calls', to='batching.batch')),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(fields=['started_at'], name='model_call_started'), models.Index(fields=['status', 'id'], name='model_call_status'), models.Index(fields=['kind', 'id'], name='model_call_kind'), models.Index(fields=['priority', 'id'], name='model_call_priority'), models.Index(condition=models.Q(('perhaps_billed', True)), fields=['id'], name='model_call_perhaps_billed'), models.Index(condition=models.Q(('folded', False), models.Q(('status', 'started'), _negated=True)), fields=['id'], name='model_call_unfolded')],
                'constraints': [models.CheckConstraint(condition=models.Q(('status__in', ['started', 'complete', 'failed'])), name='model_call_status_known')],
            },
        ),
    ]
