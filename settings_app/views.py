"""The endpoint /v1/settings."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from settings_app.access.auth import ListedOriginForWrites, StaffOrOpenAccess, check_may_change
from settings_app.history import find_author
from settings_app.model_key import mask_key
from settings_app.models import Via
from settings_app.serializers import SettingsSerializer, describe_settings, list_changed_models
from settings_app.services import update_settings
from settings_app.snapshot import refresh_if_stale


class SettingsView(APIView):
    permission_classes = [ListedOriginForWrites, StaffOrOpenAccess]

    def get(self, request: Request) -> Response:
        return self._respond()

    def put(self, request: Request) -> Response:
        """Changes only the given fields, like PATCH, so that no setting can be removed."""
        mask = mask_key(refresh_if_stale().api_key)
        serializer = SettingsSerializer(data=request.data, context={"mask": mask})
        serializer.is_valid(raise_exception=True)
        changes = serializer.valid_changes
        check_may_change(request, *list_changed_models(changes))
        update_settings(**changes, by=find_author(request.user.get_username(), Via.API))
        return self._respond()

    patch = put

    def _respond(self) -> Response:
        document = describe_settings(refresh_if_stale())
        return Response(document, headers={"Cache-Control": "no-store"})
