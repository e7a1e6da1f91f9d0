"""Parses JSON bodies strictly: UTF-8, bounded size, and only numbers that JSON allows."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import JSONParser

# Every number of the API is shorter; a longer one would overflow a float later.
MAX_INTEGER_DIGITS = 100


class StrictJSONParser(JSONParser):
    """Raises only RequestDataTooBig and ParseError for invalid bodies."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(body) > settings.MAX_BODY_BYTES:
            raise RequestDataTooBig
        try:
            return json.loads(
                body.decode(), parse_int=_parse_integer, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise ParseError from error


def _parse_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError("An integer is too long.")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


class JsonForEverybody(BaseContentNegotiation):
    """Ignores the Accept header: the API always answers in JSON, never with a 406."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type
