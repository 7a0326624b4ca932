"""A machine's memory is copied whole, wherever its pages and its holes lie."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.launchers.templates import copy_blocks

SIZE, PAGE = 1 << 20, 4096


@settings(max_examples=60)
@given(pages=st.sets(st.integers(0, SIZE // PAGE - 1), max_size=40))
def test_every_page_is_copied_and_the_copy_has_the_same_digest(pages):
    source, target, again = (os.memfd_create(name) for name in ("source", "target", "again"))
    try:
        for file in (source, target, again):
            os.ftruncate(file, SIZE)
        for page in pages:
            os.pwrite(source, b"%4096d" % page, page * PAGE)
        digest = copy_blocks(source, target)
        assert os.pread(target, SIZE, 0) == os.pread(source, SIZE, 0)
        assert copy_blocks(target, again) == digest
    finally:
        for file in (source, target, again):
            os.close(file)
