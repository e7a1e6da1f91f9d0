from django.db import migrations, models
from django.db.models import OuterRef, Subquery

PRIORITIES = [(2, 'High'), (1, 'Medium'), (0, 'Low')]


def copy_priorities(apps, schema_editor):
    """Each call gets its batch's."""
    batches = apps.get_model('batching', 'Batch').objects.filter(pk=OuterRef('batch_id'))
    calls = apps.get_model('batching', 'ModelCall').objects
    calls.update(priority=Subquery(batches.values('priority')[:1]))


class Migration(migrations.Migration):

    dependencies = [
        ('batching', '0004_fill'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelcall',
            name='priority',
            field=models.SmallIntegerField(choices=PRIORITIES, null=True),
        ),
        migrations.RunPython(copy_priorities, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='modelcall',
            name='priority',
            field=models.SmallIntegerField(
                choices=PRIORITIES, db_default=1, help_text="its batch's"
            ),
        ),
        migrations.AddIndex(
            model_name='modelcall',
            index=models.Index(fields=['priority', 'id'], name='model_call_priority'),
        ),
    ]
