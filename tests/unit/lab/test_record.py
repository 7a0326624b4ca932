from pathlib import Path

import msgspec
import pytest

from sappers.errors import LabError
from sappers.lab.plan import plan_lab
from sappers.lab.record import LabRecord, load_record, save_record

PLAN = plan_lab("lab")
EMPTY = LabRecord(base="/base")


def test_a_new_lab_has_three_hosts():
    assert [host.name for host in EMPTY.extended(PLAN, None).hosts] == ["lab1", "lab2", "lab3"]


def test_a_lab_grows_and_keeps_who_is_there():
    small = EMPTY.extended(PLAN, 2)
    large = small.extended(PLAN, 4)
    assert large.hosts[:2] == small.hosts
    assert len(large.hosts) == 4
    assert len({host.machine_id for host in large.hosts}) == 4


@pytest.mark.parametrize("count", [None, 1, 4])
def test_a_lab_never_shrinks(count):
    record = EMPTY.extended(PLAN, 4)
    assert record.extended(PLAN, count) == record


@pytest.mark.parametrize("count", [151, -1])
def test_numbers_of_hosts_that_no_lab_can_have(count):
    with pytest.raises(LabError, match="1 to 150"):
        EMPTY.extended(PLAN, count)


def test_two_hosts_cannot_have_one_address():
    record = EMPTY.extended(PLAN, 2)
    first, second = record.hosts
    moved = msgspec.structs.replace(first, address="10.77.0.99")
    assert record.with_host(moved).hosts == (moved, second)
    with pytest.raises(LabError, match="lab2's address"):
        record.with_host(msgspec.structs.replace(first, address=second.address))


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path):
    path = tmp_path / "lab.json"
    assert load_record(path) is None
    record = EMPTY.extended(PLAN, 2)
    save_record(path, record)
    assert load_record(path) == record


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"hosts": []}', b"\xff"])
def test_a_damaged_record_says_what_to_do(tmp_path: Path, content: bytes):
    path = tmp_path / "lab.json"
    path.write_bytes(content)
    with pytest.raises(LabError, match=r"lab\.json is damaged") as caught:
        load_record(path)
    assert caught.value.hint is not None
