"""Facts of block devices, as the kernel shows them in /sys and udev in /dev/disk."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Sequence

from sappers.provisioner.modules import step

_BLOCK = "/sys/block"
_BY = "/dev/disk/by-"
_KERNEL_SECTOR = 512  # in which /sys counts, whatever the device has
_UNITS = ("YB", "ZB", "EB", "PB", "TB", "GB", "MB", "KB")
_SAID = ("vendor", "model", "sas_address", "sas_device_handle")  # in the folder `device`
_QUEUE = (
    "discard_max_hw_bytes", "discard_granularity", "scheduler", "rotational", "logical_block_size",
)  # fmt: skip
Links = Dict[str, Dict[str, List[str]]]


def describe() -> step.Steps:
    """`devices` and `device_links`, as Ansible has them."""
    links: Links = {}
    for kind in ("id", "uuid", "label"):
        links[kind + "s"] = yield from _links(kind)
    links["masters"] = yield from _masters()
    found: Dict[str, Any] = {}
    for name in (yield step.Names(_BLOCK)) or ():
        found[name] = yield from _disk(name, links)
    return {"devices": found, "device_links": links}


def uuids(devices: Sequence[str], links: Links) -> step.Steps:
    """The UUIDs of file systems, by device, of those that have one."""
    found: Dict[str, str] = {}
    for device in set(devices) if links["uuids"] else ():
        real = yield step.RealPath(device)
        known = links["uuids"].get(real.rpartition("/")[2])
        if known:
            found[device] = known[0]
    return found


def human(count: float) -> str:
    """A number of bytes as Ansible says it."""
    for power, unit in zip(range(len(_UNITS), 0, -1), _UNITS):
        if count >= 1024**power:
            return f"{count / 1024**power:.2f} {unit}"
    return f"{count:.2f} Bytes"


def _disk(name: str, links: Links) -> step.Steps:
    folder = f"{_BLOCK}/{name}"
    own = [f"device/{one}" for one in (*_SAID, "serial")] + [f"queue/{one}" for one in _QUEUE]
    said = yield from _said(folder, (*own, "removable", "size"))
    wwns = [one[len("wwn-") :] for one in links["ids"].get(name, ()) if one.startswith("wwn-")]
    scheduler = re.search(r"\[(.*)\]", said["queue/scheduler"] or "")
    can_discard = said["queue/discard_max_hw_bytes"] != "0"
    partitions: Dict[str, Any] = {}
    for one in (yield step.Names(folder)) or ():
        if re.fullmatch(re.escape(name) + r"p?\d+", one):
            partitions[one] = yield from _partition(f"{folder}/{one}", one, links)
    return {
        "virtual": 1,
        "links": {kind: one.get(name, []) for kind, one in links.items()},
        **{one: said[f"device/{one}"] for one in _SAID},
        **({"serial": said["device/serial"]} if said["device/serial"] else {}),
        **({"wwn": wwns[-1]} if wwns else {}),
        "removable": said["removable"],
        "support_discard": said["queue/discard_granularity"] if can_discard else "0",
        "partitions": partitions,
        "rotational": said["queue/rotational"],
        "scheduler_mode": scheduler.group(1) if scheduler else "",
        **_size(said),
        "host": "",
        "holders": (yield from _holders(folder)),
    }


def _partition(folder: str, name: str, links: Links) -> step.Steps:
    said = yield from _said(folder, ("start", "size", "queue/logical_block_size"))
    own = {kind: one.get(name, []) for kind, one in links.items()}
    return {
        "links": own,
        "start": said["start"] or 0,
        **_size(said),
        "uuid": own["uuids"][0] if own["uuids"] else None,
        "holders": (yield from _holders(folder)),
    }


def _size(said: Dict[str, Any]) -> Dict[str, Any]:
    sector = said["queue/logical_block_size"] or _KERNEL_SECTOR
    count = int(said["size"] or 0) * _KERNEL_SECTOR // int(sector)
    return {"sectorsize": sector, "sectors": count, "size": human(float(count * int(sector)))}


def _holders(folder: str) -> step.Steps:
    """What is made of it by the device mapper, by name where it has one."""
    held = [one for one in (yield step.Names(f"{folder}/holders")) or () if one.startswith("dm-")]
    said = yield from _said(f"{folder}/holders", [f"{one}/dm/name" for one in held])
    return [said[f"{one}/dm/name"] or one for one in held]


def _said(folder: str, names: Sequence[str]) -> step.Steps:
    """What files say, None where that is nothing."""
    texts = yield step.Texts(tuple(f"{folder}/{name}" for name in names))
    return {name: texts[f"{folder}/{name}"].strip() or None for name in names}


def _links(kind: str) -> step.Steps:
    """By device the names that udev has for it."""
    found: Dict[str, List[str]] = {}
    for name in (yield step.Names(_BY + kind)) or ():
        link = yield step.Stat(f"{_BY}{kind}/{name}")
        if link is not None and link.kind == "link":
            found.setdefault(link.target.rpartition("/")[2], []).append(name)
    return found


def _masters() -> step.Steps:
    """By device what it is a part of."""
    found: Dict[str, List[str]] = {}
    for path in (yield step.Glob(f"{_BLOCK}/*/slaves/*")):
        found.setdefault(path.rpartition("/")[2], []).append(path.split("/")[3])
    return found
