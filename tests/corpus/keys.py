"""Which keys results have; imported by Ansible's callback, too, so by itself."""

from __future__ import annotations

from typing import Any

# Of any module: for who debugs modules, or what is only there with --diff.
NOWHERE = {
    "censored", "deprecations", "diff", "exception", "failed", "failed_when_suppressed_exception",
    "invocation", "warnings",
}  # fmt: skip
# Of some; docs/playbooks.md has the reasons.
MEANT = {
    "copy": {"src"}, "template": {"src"}, "get_url": {"src"},
    "unarchive": {"extract_results", "handler"}, "command": {"results_file"},
}  # fmt: skip

Keys = list[list[Any]]  # task, host, module, keys


def keys_of(result: dict[str, Any]) -> list[str]:
    """The keys of a result; of a loop's, those of its first item, as `results.KEY`."""
    found = {key for key in result if not key.startswith("_ansible")}
    for one in (result.get("results") or [])[:1]:
        if isinstance(one, dict) and "msg" in result:
            found |= {f"results.{key}" for key in one if not key.startswith("_ansible")}
    return sorted(found)


def lacking(ansible: Keys, ours: Keys) -> list[str]:
    """What Ansible's results tell and ours do not, a line a task; None for keys that are hidden.

    Results of each host are taken in order; hosts are done in any.
    """
    lines: list[str] = []
    for host in sorted({entry[1] for entry in ansible}):
        pairs = zip(*(_of_host(keys, host) for keys in (ansible, ours)), strict=False)
        for number, (wanted, found) in enumerate(pairs, start=1):
            # What failed has an exception there; what it tells beside its message is not compared.
            is_hidden = found[3] is None or "exception" in wanted[3]
            told = () if is_hidden else wanted[3]
            missing = [key for key in told if key not in found[3] and not _is_meant(wanted, key)]
            if missing:
                lines.append(f"{host}, result {number} ({wanted[0]}): lacks {', '.join(missing)}")
    return lines


def _of_host(keys: Keys, host: str) -> Keys:
    return [one for one in keys if one[1] == host]


def _is_meant(entry: list[Any], key: str) -> bool:
    name = key.rpartition(".")[2]
    return name in NOWHERE or name in MEANT.get(str(entry[2]).rpartition(".")[2], ())
