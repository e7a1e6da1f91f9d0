import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True
    replaces = [
        ('chats', '0001_initial'),
        ('chats', '0002_api_keys'),
        ('chats', '0003_suspects'),
        ('chats', '0004_streamed'),
    ]

    dependencies = [
        ('batching', '0001_squashed'),
        ('settings_app', '0001_squashed'),
    ]

    operations = [
        migrations.CreateModel(
            name='Chat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('username', models.CharField(max_length=200)),
                ('request_id', models.CharField(max_length=200)),
                ('prompt', models.TextField()),
                ('prompt_digest', models.CharField(default='', help_text='what is left of a prompt that was not kept', max_length=64)),
                ('priority', models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')])),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('expired', 'Expired')], default='queued', max_length=9)),
                ('created_at', models.DateTimeField(help_text='as the client gave it, else the acceptance')),
                ('received_at', models.DateTimeField()),
                ('due_at', models.DateTimeField(help_text='when its window ends')),
                ('deadline', models.DateTimeField(help_text='when nobody waits for it any more')),
                ('dispatched_at', models.DateTimeField(null=True)),
                ('completed_at', models.DateTimeField(null=True)),
                ('attempt', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.CharField(default='', help_text='the process that runs it', max_length=64)),
                ('lease_until', models.DateTimeField(null=True)),
                ('origin', models.CharField(default='', help_text='the process whose client waits', max_length=64)),
                ('streamed', models.BooleanField(default=False, help_text='a client reads the answer while it is written')),
                ('holders', models.PositiveSmallIntegerField(default=1, help_text='how many wait for it; having asked to keep it counts as one')),
                ('text', models.TextField(null=True)),
                ('finish_reason', models.CharField(default='', max_length=40)),
                ('tokens_used', models.PositiveIntegerField(null=True)),
                ('usage', models.JSONField(null=True)),
                ('latency_ms', models.PositiveIntegerField(null=True)),
                ('queue_ms', models.PositiveIntegerField(null=True)),
                ('error_code', models.CharField(default='', max_length=40)),
                ('error_detail', models.TextField(default='')),
                ('suspect', models.CharField(default='', help_text='the sign, in an answer to it, that another prompt of its batch reached there', max_length=100)),
                ('settled_prompt', models.PositiveIntegerField(default=0)),
                ('settled_output', models.PositiveIntegerField(default=0)),
                ('settled_thoughts', models.PositiveIntegerField(default=0)),
                ('settled_cached', models.PositiveIntegerField(default=0)),
                ('folded', models.BooleanField(default=False, help_text='counted in DailyStat')),
                ('batch', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='chats', to='batching.batch')),
                ('client', models.ForeignKey(db_index=False, default=1, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='settings_app.apiclient')),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(condition=models.Q(('status', 'queued')), fields=['priority', 'id'], name='chat_queued'), models.Index(condition=models.Q(('status', 'running')), fields=['lease_until'], name='chat_running'), models.Index(condition=models.Q(('folded', False), models.Q(('status', 'queued'), _negated=True), models.Q(('status', 'running'), _negated=True)), fields=['id'], name='chat_unfolded'), models.Index(fields=['username', 'id'], name='chat_username'), models.Index(fields=['client', 'id'], name='chat_client'), models.Index(fields=['priority', 'id'], name='chat_priority'), models.Index(fields=['status', 'id'], name='chat_status'), models.Index(fields=['received_at'], name='chat_received'), models.Index(fields=['request_id'], name='chat_request_id'), models.Index(condition=models.Q(('suspect', ''), _negated=True), fields=['id'], name='chat_suspect')],
                'constraints': [models.UniqueConstraint(fields=('client', 'username', 'request_id'), name='chat_request_once'), models.CheckConstraint(condition=models.Q(('priority__in', [2, 1, 0])), name='chat_priority_known'), models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'running', 'done', 'failed', 'cancelled', 'expired'])), name='chat_status_known'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'done'), _negated=True), models.Q(('text__isnull', False), models.Q(('text', ''), _negated=True)), _connector='OR'), name='chat_done_has_text'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['failed', 'expired', 'cancelled']), _negated=True), models.Q(('error_code', ''), _negated=True), _connector='OR'), name='chat_failed_has_code'), models.CheckConstraint(condition=models.Q(('deadline__gte', models.F('received_at'))), name='chat_deadline_after_receipt')],
            },
        ),
    ]
