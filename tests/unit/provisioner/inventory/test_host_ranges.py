from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.inventory.ranges import HOSTS_PER_LINE_MAX, expand_host_pattern


@pytest.mark.parametrize(
    ("pattern", "names", "port"),
    [
        ("lab1", ["lab1"], None),
        ("lab1:2222", ["lab1"], 2222),
        ("lab[1:3]", ["lab1", "lab2", "lab3"], None),
        ("lab[01:10:4].example.org:22", [f"lab{n}.example.org" for n in ("01", "05", "09")], 22),
        ("lab[:2]", ["lab0", "lab1", "lab2"], None),
        ("n[a:c]", ["na", "nb", "nc"], None),
        ("n[y:B]", ["ny", "nz", "nA", "nB"], None),
        ("r[1:2]n[a:b]", ["r1na", "r1nb", "r2na", "r2nb"], None),
        ("10.0.0.[9:11]", ["10.0.0.9", "10.0.0.10", "10.0.0.11"], None),
        ("::1", ["::1"], None),
        ("fe80::a:1", ["fe80::a:1"], None),
        ("[::1]:2222", ["::1"], 2222),
        ("[2001:db8::[1:2]]:2222", ["2001:db8::1", "2001:db8::2"], 2222),
        ("[1:3]:22", ["1", "2", "3"], 22),
    ],
)
def test_expands(pattern: str, names: list[str], port: int | None) -> None:
    assert expand_host_pattern(pattern) == (tuple(names), port)


@pytest.mark.parametrize(
    "pattern",
    [
        "lab[1:",
        "lab[1]",
        "lab[1:2:3:4]",
        "lab[1:]",
        "lab[1:3:0]",
        "lab[1:3:-1]",
        "lab[3:1]",
        "lab[c:a]",
        "lab[01:100]",
        "lab[1:c]",
        "lab[٣:٤]",
        "lab[0:99999999999]",
        "lab[0:999][0:999]",
        "lab1:0",
        "lab1:65536",
        "lab1:",
        "---",
        "",
        "two words",
    ],
)
def test_refuses(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        expand_host_pattern(pattern)


@given(st.integers(0, 500), st.integers(0, 200), st.integers(1, 9), st.integers(1, 5))
def test_a_range_is_python_s_range_padded(begin: int, count: int, step: int, width: int) -> None:
    end = begin + count
    first, last = str(begin).zfill(width), str(end).zfill(width)
    padded = len(first) == len(last) and first.startswith("0") and len(first) > 1
    if first.startswith("0") and len(first) > 1 and not padded:
        with pytest.raises(ValueError, match="equally long"):
            expand_host_pattern(f"h[{first}:{last}:{step}]")
        return
    names, _ = expand_host_pattern(f"h[{first}:{last}:{step}]")
    wanted = [str(n).zfill(width if padded else 0) for n in range(begin, end + 1, step)]
    assert list(names) == [f"h{n}" for n in wanted]


@given(st.text(alphabet="ab01[]:.-|,٣ \t", max_size=24))
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        names, port = expand_host_pattern(text)
    except ValueError:
        return
    assert 1 <= len(names) <= HOSTS_PER_LINE_MAX
    assert port is None or 0 < port < 65536
