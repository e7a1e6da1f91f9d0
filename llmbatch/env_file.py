"""Reads `.env`: every line is applied as it is written, or refused with its number.

A refusal never contains the line itself, because it may hold a secret.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([^=]*?)[ \t]*=[ \t]*(.*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A value in quotes; a comment may follow.
_QUOTED = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")[ \t]*(?:#.*)?""")
# A comment for some programs and a part of the value for others.
_PERHAPS_COMMENT = re.compile(r"(?:^|[ \t])#")
_ESCAPED = re.compile(r"\\(.)")


class Refused(ImproperlyConfigured):
    """A line of `.env`, or the whole file, cannot be applied."""


@dataclass(frozen=True, slots=True)
class Setting:
    line: int
    name: str
    value: str = field(repr=False)


def read_env_file(path: Path) -> list[Setting]:
    """Returns the settings of the file, none if there is no file; raises Refused."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(
            f"{path} cannot be read ({error.strerror}): make it a file that this user may read."
        ) from None
    try:
        return parse_env(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(f"Line {line} of .env is not UTF-8 text: save the file as UTF-8.") from None


def parse_env(text: str) -> list[Setting]:
    """Returns the settings in their order; raises Refused."""
    first_lines: dict[str, int] = {}
    found = []
    for setting in _parse_lines(text):
        first = first_lines.setdefault(setting.name, setting.line)
        if first != setting.line:
            raise Refused(
                f"Line {setting.line} of .env sets {setting.name} again, after line {first}:"
                " delete one of them."
            )
        found.append(setting)
    return found


def _parse_lines(text: str) -> Iterator[Setting]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        try:
            yield Setting(number, *_parse_line(content))
        except ValueError as error:
            raise Refused(f"Line {number} of .env cannot be applied: {error}.") from None


def _parse_line(line: str) -> tuple[str, str]:
    """Returns name and value; raises ValueError with a fix."""
    assignment = _ASSIGNMENT.fullmatch(line)
    if not assignment or not _NAME.fullmatch(assignment[1]):
        raise ValueError("write it as NAME=value, with a name of letters, digits and underscores")
    name, raw = assignment.groups()
    if not raw.replace("\t", " ").isprintable():
        raise ValueError(f"the value of {name} contains an invisible character")
    if not raw.startswith(("'", '"')):
        if _PERHAPS_COMMENT.search(raw):
            raise ValueError(
                f"put the value of {name} in quotes, or the comment on a line of its own"
            )
        return name, raw
    quoted = _QUOTED.fullmatch(raw)
    if not quoted:
        raise ValueError(f"the quotes of {name} do not end where its line ends")
    if quoted[1] is not None:
        return name, quoted[1]
    if not set(_ESCAPED.findall(quoted[2])) <= set('\\"$'):
        raise ValueError(f"a backslash in the value of {name}: put it in single quotes")
    return name, _ESCAPED.sub(r"\1", quoted[2])
