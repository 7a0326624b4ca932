"""Ansible's tests, as in `when: result is changed`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sappers.provisioner.playbook.templates.filters import is_truthy
from sappers.provisioner.playbook.templates.versions import compare_versions


def _result(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"the test {name!r} takes the result of a task, not {value!r}")
    return value


def _failed(result: Any) -> bool:
    return bool(_result(result, "failed").get("failed", False))


def _changed(result: Any) -> bool:
    found = _result(result, "changed")
    if "changed" in found:
        return bool(found["changed"])
    items = found.get("results")
    if not isinstance(items, list):
        return False
    return any(one.get("changed") for one in items if isinstance(one, Mapping))


def _skipped(result: Any) -> bool:
    return bool(_result(result, "skipped").get("skipped", False))


def _unreachable(result: Any) -> bool:
    return bool(_result(result, "unreachable").get("unreachable", False))


def _timedout(result: Any) -> bool:
    told = _result(result, "timedout").get("timedout")
    return bool(told and told.get("period"))


def _regex(
    value: Any, pattern: str = "", *, ignorecase: bool = False, multiline: bool = False,
    match_type: str = "search",
) -> bool:  # fmt: skip
    flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
    return bool(getattr(re.compile(pattern, flags), match_type)(str(value)))


def _match(
    value: Any,
    pattern: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
) -> bool:
    return _regex(value, pattern, ignorecase=ignorecase, multiline=multiline, match_type="match")


def _search(
    value: Any,
    pattern: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
) -> bool:
    return _regex(value, pattern, ignorecase=ignorecase, multiline=multiline)


def _version(
    value: Any, version: Any, operator: str = "eq", strict: Any = None, version_type: Any = None
) -> bool:
    if strict is not None and version_type is not None:
        raise ValueError("either strict or version_type, not both")
    if not value or not version:
        raise ValueError("a version is empty")
    kind = "strict" if strict else version_type or "loose"
    return compare_versions(str(value), str(version), operator, kind)


def _subset(one: Any, other: Any) -> bool:
    return set(one) <= set(other)


def _is_uri(value: Any, schemes: Any = None) -> bool:
    """Anything, unless a scheme is asked for: without one it is a relative one."""
    try:
        scheme = urlsplit(value).scheme
    except (ValueError, TypeError, AttributeError):
        return False
    return not schemes or scheme in schemes


def _is_url(value: Any, schemes: Any = None) -> bool:
    if not _is_uri(value, schemes):
        return False
    split = urlsplit(value)
    return bool(split.netloc or split.scheme == "file")


def _at_path(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """For a number, which would be a file that this process has open, there is nothing."""
    return lambda path: not isinstance(path, int) and test(path)


TESTS: dict[str, Callable[..., bool]] = {
    "abs": os.path.isabs,
    "all": lambda values: all(values),
    "any": lambda values: any(values),
    "change": _changed,
    "changed": _changed,
    "contains": lambda values, value: value in values,
    "directory": _at_path(os.path.isdir),
    "exists": _at_path(os.path.exists),
    "failed": _failed,
    "failure": _failed,
    "falsy": lambda value, convert_bool=False: not is_truthy(value, convert_bool=convert_bool),
    "file": _at_path(os.path.isfile),
    "finished": lambda result: bool(_result(result, "finished").get("finished", True)),
    "is_abs": os.path.isabs,
    "is_dir": _at_path(os.path.isdir),
    "is_file": _at_path(os.path.isfile),
    "is_link": os.path.islink,
    "is_mount": os.path.ismount,
    "is_same_file": lambda one, other: Path(one).samefile(other),
    "isnan": lambda value: isinstance(value, float) and math.isnan(value),
    "issubset": _subset,
    "issuperset": lambda one, other: _subset(other, one),
    "link": os.path.islink,
    "link_exists": os.path.lexists,
    "match": _match,
    "mount": os.path.ismount,
    "nan": lambda value: isinstance(value, float) and math.isnan(value),
    "reachable": lambda result: not _unreachable(result),
    "regex": _regex,
    "same_file": lambda one, other: Path(one).samefile(other),
    "search": _search,
    "skip": _skipped,
    "skipped": _skipped,
    "started": lambda result: bool(_result(result, "started").get("started", True)),
    "subset": _subset,
    "succeeded": lambda result: not _failed(result),
    "success": lambda result: not _failed(result),
    "successful": lambda result: not _failed(result),
    "superset": lambda one, other: _subset(other, one),
    "timedout": _timedout,
    "truthy": lambda value, convert_bool=False: is_truthy(value, convert_bool=convert_bool),
    "unreachable": _unreachable,
    "uri": _is_uri,
    "url": _is_url,
    "urn": lambda value: _is_uri(value, ["urn"]),
    "version": _version,
    "version_compare": _version,
}
