from __future__ import annotations

from django.urls import include, path, re_path

from tests.tocsin.django_project import views

api = [
    path("courses/<int:course_id>", views.show),
    path("courses", views.Courses.as_view()),
    path("reports", views.Reports.as_view({"get": "list", "post": "create"})),
    re_path(r"^terms/(?P<course_id>[0-9]{4})/$", views.show),
]

urlpatterns = [
    path("api/v1/", include(api)),
    path("up", views.of_tenant),
    path("broken", views.broken),
    path("broken-async", views.broken_async),
    path("refused/<kind>", views.refused),
    path("stream", views.stream),
    path("broken-stream", views.broken_stream),
    path("endless", views.endless),
    path("stream-async", views.stream_async),
    path("endless-async", views.endless_async),
    path("slow", views.slow),
    path("annotating", views.annotating),
    path("file", views.file),
    path("me", views.me),
    path("anyone", views.anyone),
    path("tenant", views.of_tenant),
    path("login", views.log_in),
    path("callback", views.callback),
    path("accounts/", include("allauth.urls")),
]
