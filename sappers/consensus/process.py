"""The raft process: one voter and nothing else. Run as `python -m sappers.consensus.process FD`.

`FD` is its end of a socket pair with the agent; all it must know comes through it, so that nothing
stands in its arguments or environment.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run it; the exit code."""
    # structlog imports rich where it is installed, which takes 4 MB, and nothing here uses it.
    sys.modules["rich"] = None  # type: ignore[assignment]
    # TLS comes from the standard library here; this one takes 10 MB.
    sys.modules["cryptography"] = None  # type: ignore[assignment]
    from sappers.consensus.voter import run_voter

    return run_voter(int(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
