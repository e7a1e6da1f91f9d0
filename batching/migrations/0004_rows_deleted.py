from django.db import migrations, models

HELP = "rows that are counted here were deleted since"


class Migration(migrations.Migration):
    """Marks the days whose rows were deleted. Rows of the days before may have been."""

    dependencies = [("batching", "0003_mark_estimated_calls")]

    operations = [
        migrations.AddField(
            "dailystat", "rows_deleted", models.BooleanField(default=True, help_text=HELP)
        ),
        migrations.AlterField(
            "dailystat", "rows_deleted", models.BooleanField(default=False, help_text=HELP)
        ),
    ]
