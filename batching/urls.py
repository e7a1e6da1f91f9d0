from django.urls import path, re_path
from django.views.generic import RedirectView

from batching.api.views import AnalyticsView, QueryStateView
from batching.pages import views

urlpatterns = [
    path("v1/analytics", AnalyticsView.as_view(), name="analytics"),
    # An id may hold a slash, or anything else.
    re_path(r"^v1/query/(?P<request_id>[\s\S]+)$", QueryStateView.as_view(), name="query-state"),
    path("", RedirectView.as_view(pattern_name="dashboard")),
    path("dashboard", views.dashboard, name="dashboard"),
    path("batches", views.batch_list, name="batches"),
    path("batches/<int:batch_id>", views.batch_page, name="batch"),
    path("live", views.live, name="live"),
    path("playground", views.playground, name="playground"),
    path("playground/batches", views.playground_batches, name="playground-batches"),
    path("admin/test-key", views.test_key, name="test-key"),
]
