from django.db import migrations, models


class Migration(migrations.Migration):
    """Columns and help texts get the words that the code and the documents use."""

    dependencies = [("batching", "0001_squashed")]

    operations = [
        migrations.RemoveIndex(model_name="batch", name="batch_unfolded"),
        migrations.RemoveIndex(model_name="modelcall", name="model_call_unfolded"),
        migrations.RenameField("batch", "folded", "rolled_up"),
        migrations.RenameField("modelcall", "folded", "rolled_up"),
        migrations.RenameField("dailystat", "placed_requests", "fill_requests"),
        migrations.RenameField("dailystat", "places", "fill_capacity"),
        migrations.AlterField(
            model_name='dailystat',
            name='fill_capacity',
            field=models.PositiveBigIntegerField(default=0, help_text='sum of the maximum sizes of those batches when they left'),
        ),
        migrations.AlterField(
            model_name='modelcall',
            name='priority',
            field=models.SmallIntegerField(choices=[(2, 'High'), (1, 'Medium'), (0, 'Low')], help_text='of its batch'),
        ),
        migrations.AlterField(
            model_name='processnumbers',
            name='name',
            field=models.CharField(help_text='the same after a restart', max_length=40, primary_key=True, serialize=False),
        ),
        migrations.AlterField(
            model_name='processnumbers',
            name='text',
            field=models.TextField(help_text='in the text format of Prometheus'),
        ),
        migrations.AlterField(
            model_name='worker',
            name='call_s',
            field=models.JSONField(default=list, help_text='durations of recent calls, by priority'),
        ),
        migrations.AlterField(
            model_name='worker',
            name='down',
            field=models.BooleanField(default=False, help_text='the probe after the pause failed, too'),
        ),
        migrations.AlterField(
            model_name='worker',
            name='paused_s',
            field=models.FloatField(default=0, help_text='how long the circuit breaker lets no call start'),
        ),
        migrations.AlterField(
            model_name='worker',
            name='reserve',
            field=models.PositiveIntegerField(help_text='of these, reserved for HIGH'),
        ),
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(condition=models.Q(('rolled_up', False), models.Q(('outcome', 'running'), _negated=True)), fields=['id'], name='batch_not_rolled_up'),
        ),
        migrations.AddIndex(
            model_name='modelcall',
            index=models.Index(condition=models.Q(('rolled_up', False), models.Q(('status', 'started'), _negated=True)), fields=['id'], name='model_call_not_rolled_up'),
        ),
    ]
