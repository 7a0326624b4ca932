#!/bin/sh
# $1 Python, $2 bundle, $3 folder. The folder is made where it stays: its scripts name it.
# PEX needs no ensurepip, which Debian ships apart. What a killed run left of its cache would
# mislead it. Compiled now: the unit cannot write there later. Appliances are made with it, too.
set -e
rm -rf "$3" "$PEX_ROOT"
# On a disk that got full, what is there of it would only be in the way.
trap 'test -e "$3/.complete" || rm -rf "$3" "$PEX_ROOT"' EXIT
PEX_TOOLS=1 "$1" -I "$2" venv --collisions-ok --compile "$3" >&2 </dev/null
cat > "$3/bin/sappers" <<PROGRAM
#!$3/bin/python -I
import sys

from sappers.cli.agent import main

sys.exit(main())
PROGRAM
chmod 0755 "$3/bin/sappers"
rm -rf "$PEX_ROOT"
sync -f "$3"
touch "$3/.complete"
sync -f "$3"
