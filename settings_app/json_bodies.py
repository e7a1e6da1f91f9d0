"""Reads JSON bodies as the standard has them: UTF-8, of bounded size, with numbers that exist."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import JSONParser

# Enough for every number of the API; what is longer overflows a float further in.
MAX_INTEGER_DIGITS = 100


class StrictJSONParser(JSONParser):
    """Raises RequestDataTooBig or ParseError, whatever the body is."""

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
                body.decode(), parse_int=_read_integer, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise ParseError from error


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError("An integer is too long.")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


class JsonForEverybody(BaseContentNegotiation):
    """The API speaks JSON whatever the client says that it accepts: there is no 406."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type
