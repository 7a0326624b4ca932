"""Files that are no YAML, or too much of it: refused in no time, with the place and a way out."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from sappers.errors import PlaybookError
from sappers.provisioner import source
from sappers.provisioner.source import FILE_BYTES_MAX, Text, read_file

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "where", "message", "hint"),
    [
        (b"- name: caf\xe9\n", ":1:12", "no UTF-8 text", "UTF-8"),
        ("- hosts: all\n".encode("utf-16"), ":1:1", "no UTF-8 text", "UTF-8"),
        (b"a:\r\n  b: [\r\n", ":3:1", "expected node content", ""),
        (b"a:\n\tb: 1\n", ":2:1", "cannot start any token", "spaces"),
        (b"a: [1, 2\nb: 3\n", ":2:2", "expected ',' or ']'", "the `[` of line 1, column 4"),
        (b"a: {b: 1\n", ":2:1", "expected ',' or '}'", "the `{` of line 1, column 4"),
        (b"a: 'x\nb: 3\n", ":3:1", "unexpected end of stream", "the quote of line 1, column 4"),
        (b"a: 1\n  b: 2\n", ":2:4", "mapping values", "holds `: `"),
        (b"- a\nb: 2\n", ":2:1", "expected '-' indicator", "indentation"),
        (b"a: 1\nb: x\x00\n", ":2:5", "U+0000 may not stand here", ""),
        ("a: é\nb: é\a\n".encode(), ":2:5", "U+0007 may not stand here", ""),
        (b"a: 1\n---\nb: 1\n", ":2:1", "another document", "one document"),
        (b"a: *x\n", ":1:4", "undefined alias 'x'", ""),
        (b"- &a [*a]\n", ":1:3", "in itself", ""),
        (b"a: {<<: [1]}\n", ":1:5", "takes a mapping", ""),
        (LAUGHS.encode(), ":1:", "aliases make more than 200000 values", ""),
        (b"[" * 900, ":1:102", "more than 100 levels", ""),
        (b"[" * 3000, ":1:", "maximum nesting depth", ""),
        (b"- " * 3000, ":1:203", "more than 100 levels", ""),
        (b"a: {x: 1, x: 2}\n", ":1:11", "'x' is here twice", ""),
        (b"a: 2020-99-99\n", ":1:4", "no timestamp", "quote"),
        (b"a: " + b"9" * 5000 + b"\n", ":1:4", "no int", "quote"),
        (b'a: "\\ud800"\n', ":1:7", "invalid Unicode character", ""),
        (b"a: !!python/object/apply:os.system [id]\n", ":1:4", "!!python/object/apply:os.", ""),
        (b"a: !!str {}\n", ":1:4", "the tag !!str is not supported here", ""),
        (b"? [a]\n: 1\n", ":1:3", "plain text", "quote it"),
        (b"#" * (FILE_BYTES_MAX + 1), "", "bytes are more than YAML is read of", "from_json"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, content: bytes, where: str, message: str, hint: str
) -> None:
    path = tmp_path / "file.yml"
    path.write_bytes(content)
    with pytest.raises(PlaybookError) as caught:
        read_file(path)
    assert str(caught.value).startswith(f"{path}{where}")
    assert message in str(caught.value)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("parser", [source._Parser, yaml.SafeLoader])
def test_what_is_only_unusual_is_read(
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
    parser: type,
) -> None:
    monkeypatch.setattr(source, "_Parser", parser)  # where libyaml is, and where it is not
    path = tmp_path / "file.yml"
    path.write_bytes(
        b'\xef\xbb\xbfa: &x 1\r\nb: &x {c: 2}\r\nd: {<<: *x, e: 3}\r\nf: !unsafe ["{{ g }}"]\r\n'
    )
    read = read_file(path)
    assert read == {"a": 1, "b": {"c": 2}, "d": {"c": 2, "e": 3}, "f": ["{{ g }}"]}
    assert not isinstance(read["f"][0], Text)  # it is no template
    assert not recwarn.list
    path.write_bytes(b"")
    assert read_file(path) is None


def test_half_a_character_is_refused_without_libyaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_Parser", yaml.SafeLoader)
    path = tmp_path / "file.yml"
    path.write_text('a: "\\ud800"\n')
    with pytest.raises(PlaybookError, match=":1:4: a text holds half a character"):
        read_file(path)


@pytest.mark.parametrize("beginning", ["", "---\n", "%YAML 1.2\n---\n", "# a comment\n---\n"])
def test_the_version_is_that_of_ansible_however_a_file_begins(
    tmp_path: Path, beginning: str
) -> None:
    path = tmp_path / "file.yml"
    path.write_text(f"{beginning}a: yes\nb: {{c: [off, On]}}\nd: 0755\ne: y\nf: 1:30\ng: 1_000\n")
    assert read_file(path) == {
        "a": True, "b": {"c": [False, True]}, "d": 0o755, "e": "y", "f": 90, "g": 1000,
    }  # fmt: skip


def test_a_text_is_copied_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file.yml"
    path.write_text("a: [b]\n")
    (copied,) = copy.deepcopy(read_file(path))["a"]
    assert copied == "b"
    assert str(copied.place) == f"{path}:1:5"
