"""Ansible's filters for lists and mappings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jinja2
from jinja2.filters import do_unique


@jinja2.pass_environment
def _unique(
    environment: jinja2.Environment,
    values: Iterable[Any],
    case_sensitive: bool | None = None,
    attribute: str | None = None,
) -> list[Any]:
    """As Ansible's: by Jinja's, to which `A` is `a`; what cannot be hashed is compared."""
    try:
        return list(do_unique(environment, values, bool(case_sensitive), attribute))
    except TypeError:
        if case_sensitive is False or attribute:
            raise
        return _distinct(values)


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _union(one: list[Any], other: list[Any]) -> list[Any]:
    return _distinct([*one, *other])


def _intersect(one: list[Any], other: list[Any]) -> list[Any]:
    return _distinct(value for value in one if value in other)


def _difference(one: list[Any], other: list[Any]) -> list[Any]:
    return _distinct(value for value in one if value not in other)


def _symmetric_difference(one: list[Any], other: list[Any]) -> list[Any]:
    return _distinct([*_difference(one, other), *_difference(other, one)])


def combine(*terms: Any, recursive: bool = False, list_merge: str = "replace") -> Any:
    """Several mappings as one, of which a later one counts."""
    if list_merge not in _LIST_MERGES:
        raise ValueError(f"list_merge is one of {', '.join(_LIST_MERGES)}, not {list_merge!r}")
    mappings = _flatten(terms, levels=1)
    if len(mappings) == 1:
        return mappings[0]
    merged: dict[str, Any] = {}
    for term in mappings:
        if not isinstance(term, Mapping):
            raise TypeError(f"combine takes mappings, not {term!r}")
        merged = _merge(merged, term, recursive=recursive, list_merge=list_merge)
    return merged


def _merge(
    below: Mapping[str, Any], above: Mapping[str, Any], *, recursive: bool, list_merge: str
) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        there = merged.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping) and recursive:
            merged[key] = _merge(there, value, recursive=True, list_merge=list_merge)
        elif isinstance(there, list) and isinstance(value, list):
            merged[key] = _LIST_MERGES[list_merge](there, value)
        else:
            merged[key] = value
    return merged


_LIST_MERGES: Mapping[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "replace": lambda there, new: new,
    "keep": lambda there, new: there,
    "append": lambda there, new: [*there, *new],
    "prepend": lambda there, new: [*new, *there],
    "append_rp": lambda there, new: [*(one for one in there if one not in new), *new],
    "prepend_rp": lambda there, new: [*new, *(one for one in there if one not in new)],
}


def _flatten(values: Any, levels: int | None = None, *, skip_nulls: bool = True) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value in (None, "None", "null") and skip_nulls and not isinstance(value, list):
            continue
        if isinstance(value, list | tuple) and (levels is None or levels >= 1):
            below = None if levels is None else levels - 1
            found.extend(_flatten(value, below, skip_nulls=skip_nulls))
        else:
            found.append(value)
    return found


def _dict2items(
    mapping: Mapping[str, Any], key_name: str = "key", value_name: str = "value"
) -> list[dict[str, Any]]:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"dict2items takes a mapping, not {mapping!r}")
    return [{key_name: key, value_name: value} for key, value in mapping.items()]


def _items2dict(
    items: list[Mapping[str, Any]], key_name: str = "key", value_name: str = "value"
) -> dict[str, Any]:
    return {item[key_name]: item[value_name] for item in items}


@jinja2.pass_environment
def _extract(
    environment: jinja2.Environment, item: Any, container: Any, morekeys: Any = None
) -> Any:
    more = morekeys if isinstance(morekeys, list) else [] if morekeys is None else [morekeys]
    keys = [item, *more]
    value = container
    for key in keys:
        value = environment.getitem(value, key)
    return value


def subelements(values: Any, keys: Any, *, skip_missing: bool = False) -> list[Any]:
    """Pairs of each element and each item of a list in it."""
    elements = list(values.values()) if isinstance(values, Mapping) else list(values)
    names = keys.split(".") if isinstance(keys, str) else list(keys)
    found: list[Any] = []
    for element in elements:
        below = element
        for name in names:
            if name not in below:
                if skip_missing:
                    below = []
                    break
                raise KeyError(f"could not find {name!r} in {below!r}")
            below = below[name]
        if not isinstance(below, list):
            raise TypeError(f"{keys!r} should lead to a list, not to {below!r}")
        found.extend([element, item] for item in below)
    return found


def _rekey_on_member(values: Any, key: str, duplicates: str = "error") -> dict[str, Any]:
    if duplicates not in ("error", "overwrite"):
        raise ValueError(f"duplicates is error or overwrite, not {duplicates!r}")
    found: dict[str, Any] = {}
    for element in values.values() if isinstance(values, Mapping) else values:
        if element[key] in found and duplicates == "error":
            raise ValueError(f"the key {element[key]!r} is not unique")
        found[element[key]] = element
    return found


COLLECTION_FILTERS: dict[str, Callable[..., Any]] = {
    "combinations": lambda values, size: [
        list(one) for one in itertools.combinations(values, size)
    ],
    "combine": combine,
    "dict2items": _dict2items,
    "difference": _difference,
    "extract": _extract,
    "flatten": _flatten,
    "intersect": _intersect,
    "items2dict": _items2dict,
    "permutations": lambda values, *size: [
        list(one) for one in itertools.permutations(values, *size)
    ],
    "product": lambda *values, repeat=1: [
        list(one) for one in itertools.product(*values, repeat=repeat)
    ],
    "rekey_on_member": _rekey_on_member,
    "subelements": subelements,
    "symmetric_difference": _symmetric_difference,
    "union": _union,
    "unique": _unique,
    "zip": lambda *values: [list(one) for one in zip(*values, strict=False)],
    "zip_longest": lambda *values, fillvalue=None: [
        list(one) for one in itertools.zip_longest(*values, fillvalue=fillvalue)
    ],
}
