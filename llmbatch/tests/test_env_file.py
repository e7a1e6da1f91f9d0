"""Each line of `.env` is applied as it is written, or refused with its number alone."""

import logging
import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llmbatch import environment
from llmbatch.env_file import parse_env, read_env_file

SECRET = "s3cret-value"

READ = {
    "NAME=value": "value",
    "NAME = value": "value",
    "  NAME\t=\tvalue  ": "value",
    "export NAME=value": "value",
    "export  NAME = 'value'": "value",
    "NAME=": "",
    "NAME=a=b==": "a=b==",
    "NAME=a#b": "a#b",
    "NAME=$value": "$value",
    "NAME='$value'": "$value",
    'NAME="$value"': "$value",
    "NAME=${value}$$": "${value}$$",
    "NAME='a b # \"c\" \\d'": 'a b # "c" \\d',
    "NAME=\"a b # 'c'\"": "a b # 'c'",
    'NAME="a \\" \\\\ \\$"': 'a " \\ $',
    "NAME='value'  # a comment": "value",
    "NAME=a'b\"c": "a'b\"c",
    "NAME=C:\\new": "C:\\new",
    "NAME=grün": "grün",
    "name_1=value": "value",
}
REFUSED = [
    SECRET,
    f"NAME {SECRET}",
    f"NAME: {SECRET}",
    f"MY NAME={SECRET}",
    f"NAME-1={SECRET}",
    f"1NAME={SECRET}",
    f"={SECRET}",
    f"set NAME={SECRET}",
    f"NAME='{SECRET}",
    f'NAME="{SECRET}',
    f"NAME='{SECRET}'x",
    f"NAME='{SECRET}' 'x'",
    f'NAME="{SECRET}\\n"',
    f"NAME=#{SECRET}",
    f"NAME={SECRET} # a comment",
    f"NAME={SECRET}\0",
    f"NAME={SECRET}\x1b[2J",
    f"NAME={SECRET}\u200bx",
    f"NAME={SECRET}\u00a0x",
    f"\ufeff\ufeffNAME={SECRET}",
]


@pytest.mark.parametrize("line", READ)
def test_line_is_read_as_it_is_written(line: str) -> None:
    [setting] = parse_env(f"# a comment\n\n{line}\n")
    assert (setting.line, setting.name.lower()[:4], setting.value) == (3, "name", READ[line])


@pytest.mark.parametrize("line", REFUSED)
def test_other_lines_are_refused_with_their_number_and_without_their_value(line: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^Line 3 of \.env ") as refused:
        parse_env(f"PORT=1\n\n{line}\nHOST=x\n")
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_name_that_is_set_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r"Line 3 of \.env sets PORT again, after line 1"
    ):
        parse_env(f"PORT=1\nHOST=x\nexport PORT={SECRET}\n")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_change_no_value(
    tmp_path: Path, start: bytes, line_end: bytes
) -> None:
    file = tmp_path / ".env"
    file.write_bytes(start + line_end.join([b"A=1", b"", b"B='2'", b"C = 3 "]))
    assert [(s.line, s.name, s.value) for s in read_env_file(file)] == [
        (1, "A", "1"),
        (3, "B", "2"),
        (4, "C", "3"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_file_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes("A=1\nB=schön\n".encode(encoding))
    with pytest.raises(ImproperlyConfigured, match="UTF-8"):
        read_env_file(file)


def test_file_that_cannot_be_read_is_refused_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / "missing") == []
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        read_env_file(tmp_path)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PORT": "1"})
    monkeypatch.setattr(environment, "_from_file", {})


@pytest.mark.usefixtures("clean_environment")
def test_environment_comes_before_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"PORT=2\nGEMINI_API_KEY={SECRET}\n")
    with caplog.at_level(logging.DEBUG):
        environment.load_env_file(file)
    assert (os.environ["PORT"], os.environ["GEMINI_API_KEY"]) == ("1", SECRET)
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("clean_environment")
def test_invalid_value_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"\nTLS_PROXY = {SECRET}\n")
    environment.load_env_file(tmp_path / ".env")
    with pytest.raises(ImproperlyConfigured, match=r"^TLS_PROXY \(line 2 of \.env\)") as refused:
        environment.read_bool("TLS_PROXY", False)
    assert SECRET not in str(refused.value)


@pytest.mark.usefixtures("clean_environment")
@pytest.mark.parametrize("name", ["DJANGO_ALOWED_HOSTS", "django_allowed_hosts", "DJANGO_DEBGU"])
def test_misspelt_name_is_refused_with_the_right_one(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"POSTGRES_PASSWORD=x\nFLEET_PORT=1\nHTTPS_PROXY=x\n{name}=x\n")
    environment.load_env_file(tmp_path / ".env")
    for known in ("DJANGO_ALLOWED_HOSTS", "DJANGO_DEBUG"):
        environment.read_list(known, [])
    with pytest.raises(ImproperlyConfigured, match=rf"Line 4 of .env sets {name}: .* DJANGO_"):
        environment.refuse_misspelt()
