from django.db import migrations, models


class Migration(migrations.Migration):
    """Columns and help texts get the words that the code and the documents use."""

    dependencies = [("chats", "0001_squashed")]

    operations = [
        migrations.RemoveIndex(model_name="chat", name="chat_unfolded"),
        migrations.RenameField("chat", "folded", "rolled_up"),
        migrations.RenameField("chat", "holders", "waiters"),
        migrations.AlterField(
            model_name='chat',
            name='created_at',
            field=models.DateTimeField(help_text='as the client sent it, otherwise the time of acceptance'),
        ),
        migrations.AlterField(
            model_name='chat',
            name='deadline',
            field=models.DateTimeField(help_text='after this time the request expires'),
        ),
        migrations.AlterField(
            model_name='chat',
            name='origin',
            field=models.CharField(default='', help_text='the process whose client waits for the answer', max_length=64),
        ),
        migrations.AlterField(
            model_name='chat',
            name='owner',
            field=models.CharField(default='', help_text='the worker that runs it', max_length=64),
        ),
        migrations.AlterField(
            model_name='chat',
            name='prompt_digest',
            field=models.CharField(default='', help_text='digest of a prompt that is not stored', max_length=64),
        ),
        migrations.AlterField(
            model_name='chat',
            name='suspect',
            field=models.CharField(default='', help_text='why its answer may hold text of another prompt of its batch', max_length=100),
        ),
        migrations.AlterField(
            model_name='chat',
            name='waiters',
            field=models.PositiveSmallIntegerField(default=1, help_text='clients that wait for it; a respond-async request counts as one'),
        ),
        migrations.AddIndex(
            model_name='chat',
            index=models.Index(condition=models.Q(('rolled_up', False), models.Q(('status', 'queued'), _negated=True), models.Q(('status', 'running'), _negated=True)), fields=['id'], name='chat_not_rolled_up'),
        ),
    ]
