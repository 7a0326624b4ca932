"""What the control machine keeps of a cluster as JSON: made once, read by each run."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from sappers.errors import ConfigError

_T = TypeVar("_T")


def read_kept(path: Path, kind: type[_T], hint: str) -> _T | None:
    """What a file holds, or None where there is none.

    Raises:
        ConfigError: The file is damaged; with `hint`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}", hint=hint) from error
