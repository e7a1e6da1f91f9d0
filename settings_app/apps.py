from django.apps import AppConfig


class SettingsAppConfig(AppConfig):
    name = "settings_app"
    verbose_name = "Gateway settings"

    def ready(self) -> None:
        from settings_app import checks  # noqa: F401 - registers its checks
