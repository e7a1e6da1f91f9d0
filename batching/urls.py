"""The pages of `batching`; its endpoints are in `llmbatch/routes.py`."""

from django.urls import path
from django.views.generic import RedirectView

from batching.pages import views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="dashboard")),
    path("dashboard", views.dashboard, name="dashboard"),
    path("batches", views.batch_list, name="batches"),
    path("batches/<int:batch_id>", views.batch_page, name="batch"),
    path("live", views.live, name="live"),
    path("playground", views.playground, name="playground"),
    path("playground/batches", views.playground_batches, name="playground-batches"),
    path("admin/test-key", views.test_key, name="test-key"),
]
