from django.urls import path

from settings_app.views import SettingsView

urlpatterns = [path("v1/settings", SettingsView.as_view(), name="settings")]
