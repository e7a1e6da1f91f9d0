from django.db import migrations

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


class Migration(migrations.Migration):
    dependencies = [("settings_app", "0001_initial")]
    operations = [migrations.RunPython(create_rows, migrations.RunPython.noop)]
