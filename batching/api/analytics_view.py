"""GET /v1/analytics."""

from datetime import date, timedelta
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batching.analytics.summary import MAX_DAYS, summarize_now
from chats.serializers import QueryParameters


class DayField(serializers.DateField):
    """A UTC day, YYYY-MM-DD."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(input_formats=["%Y-%m-%d"], **kwargs)


class AnalyticsParameters(QueryParameters):
    to = DayField(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        return super().get_fields() | {"from": DayField(required=False)}

    def validate_to(self, value: date) -> date:
        if value == date.min:
            raise serializers.ValidationError("There is no day before this one.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if "from" in attrs and "to" in attrs and (attrs["to"] - attrs["from"]).days > MAX_DAYS:
            raise serializers.ValidationError(
                {"to": [f"Must be at most {MAX_DAYS} days after `from`."]}
            )
        return attrs


class AnalyticsView(APIView):
    def get(self, request: Request) -> Response:
        parameters = AnalyticsParameters(data=request.query_params)
        parameters.is_valid(raise_exception=True)
        first, to = (parameters.validated_data.get(name) for name in ("from", "to"))
        return Response(summarize_now(first=first, last=to and to - timedelta(days=1)))
