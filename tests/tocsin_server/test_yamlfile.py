"""YAML that people write: lines of keys, all faults at once, no surprises of YAML 1.1."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from tocsin_server.durations import Duration
from tocsin_server.errors import Fault
from tocsin_server.yamlfile import known_keys, load_yaml


class Source(BaseModel):
    model_config = ConfigDict(extra="forbid")
    file: str
    every: Duration = 0


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sources: list[Source]
    labels: dict[str, int] = {}


def faults_of(text: str) -> list[Fault]:
    document, faults = load_yaml(text, "tocsin.yaml")
    try:
        Settings.model_validate(document.data)
    except ValidationError as error:
        faults += document.faults_of(error, Settings)
    return faults


def test_all_faults_have_the_line_of_their_key():
    text = (
        "sources:\n  - file: a\n    every: 5x\n    evry: 1m\n  - every: 1m\n\nlabels:\n  a: one\nlabls: {}\n"
    )
    assert [(fault.line, fault.message, fault.hint) for fault in faults_of(text)] == [
        (3, "`every`: `5x` is not a duration", "write 30s, 5m or 1h30m"),
        (4, "unknown key `evry`", "did you mean `every`?"),
        (5, "`file` is missing", "known: `every`, `file`"),
        (8, "`a`: must be a whole number", ""),
        (9, "unknown key `labls`", "did you mean `labels`?"),
    ]


BROKEN = {
    "empty": ("", 1, "the file is empty"),
    "only a comment": ("# nothing\n", 1, "the file is empty"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", 3, "duplicate key `a`"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, "more than one document"),
    "tab": ("a:\n\t- b\n", 2, "not valid YAML"),
    "unclosed list": ("a: 1\nb: [1, 2\nc: 3\n", 2, "not valid YAML"),
    "unclosed quote": ('a: 1\nb: "x\nc: 3\n', 2, "not valid YAML"),
    "bad indentation": ("a: 1\n b: 2\n", 2, "not valid YAML"),
    "control character": ("a: 1\nb: \x01\n", 2, "control character"),
    "tag": ("a: 1\nb: !!python/object:os.system x\n", 2, "is not supported"),
    "wrong tag": ("a: !!int five\n", 1, "not a valid int"),
    "merge key": ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
    "key is a mapping": ("{a: 1}: 2\n", 1, "a key must be a word"),
    "alias to itself": ("a: &a [*a]\n", 1, "aliases"),
    "deep": ("[" * 3000, 1, "nested too deeply"),
}


@pytest.mark.parametrize(("text", "line", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_file(text, line, message):
    _, faults = load_yaml(text, "f.yaml")
    assert [(fault.file, fault.line) for fault in faults] == [("f.yaml", line)]
    assert message in faults[0].message


def test_invalid_utf8_has_a_line():
    _, (fault,) = load_yaml(b"a: 1\nb: \xff\n", "f.yaml")
    assert (fault.line, fault.message) == (2, "byte 0xff is not UTF-8")


def test_a_missing_file_and_a_huge_one_are_faults(tmp_path):
    _, (fault,) = load_yaml(tmp_path / "none.yaml")
    assert "No such file" in fault.message
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    _, (fault,) = load_yaml(big)
    assert "larger than" in fault.message
    assert fault.file == str(big)


def test_aliases_cannot_explode():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    _, (fault,) = load_yaml("\n".join(lines), "f.yaml")
    assert "aliases" in fault.message


def test_scalars_follow_yaml_1_2():
    text = "[on, no, yes, 5:30, 1_000, 010, 0o17, 2026-11-23, 5m, 5%, 0x1f, -7, 1e3, .5, true, null, ~, '1']"
    assert load_yaml(text, "f.yaml")[0].data == [
        *("on", "no", "yes", "5:30", "1_000", "010", "0o17", "2026-11-23", "5m", "5%"),
        *(31, -7, 1000.0, 0.5, True, None, None, "1"),
    ]


def test_windows_line_ends_and_a_byte_order_mark_are_fine():
    document, faults = load_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml")
    assert (document.data, faults, document.line_of(("b",))) == ({"a": 1, "b": 2}, [], 2)


def test_line_of_a_missing_key_is_its_parents():
    document, _ = load_yaml("a:\n  - b: 1\n    c: {d: 2}\n", "f.yaml")
    assert document.line_of(("a", 0, "c", "d")) == 3
    assert document.line_of(("a", 0, "x")) == 2
    assert document.line_of(("a", "union-name", 0, "c")) == 3
    assert document.line_of(("x",)) == 1


def test_known_keys_reads_lists_and_mappings():
    assert known_keys(Settings, ()) == {"sources", "labels"}
    assert known_keys(Settings, ("sources", 3)) == {"file", "every"}


@given(st.text(max_size=60) | st.binary(max_size=60))
@settings(deadline=None)
def test_nothing_escapes(text):
    document, faults = load_yaml(text, "f.yaml")
    assert document.data is None or not isinstance(document.data, Path)
    assert all(fault.line >= 1 for fault in faults)
