import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('settings_app', '0001_squashed'),
    ]

    operations = [
        migrations.AlterField(
            model_name='apikey',
            name='client',
            field=models.ForeignKey(blank=True, help_text="Leave empty for a new client with the key's name.", on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='settings_app.apiclient'),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='owner',
            field=models.CharField(blank=True, help_text='Contact person', max_length=200),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='requests_per_minute',
            field=models.PositiveIntegerField(blank=True, help_text='Prompts that it may send in any minute. Leave empty for no limit.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100000)]),
        ),
        migrations.AlterField(
            model_name='gatewaysettings',
            name='retention_days',
            field=models.PositiveIntegerField(default=90, help_text='Older chats, batches and model calls are deleted; 0 keeps them without limit. The figures per day are kept.', validators=[django.core.validators.MaxValueValidator(36500)], verbose_name='retention (days)'),
        ),
        migrations.AlterField(
            model_name='gatewaysettings',
            name='store_prompts',
            field=models.BooleanField(default=True, help_text='Off: prompts and raw replies are deleted when a request ends. Answers are kept until the retention deletes them.'),
        ),
        migrations.AlterField(
            model_name='lane',
            name='hold_until_checked',
            field=models.BooleanField(default=False, help_text="Answers are sent only after the whole reply was checked for text that one prompt of the batch left in another's answer. Each answer waits for the end of the reply."),
        ),
    ]
