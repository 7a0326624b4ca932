#!/bin/sh
# Installs the agent's bundle as bootstrap does, so that a later bootstrap finds it in its place.
set -eu
install_folder=/opt/sappers
mkdir -p "$install_folder"
# With this, Python compiles for what a source is, and not for when it was written.
export SOURCE_DATE_EPOCH=1700000000
PEX_ROOT=$install_folder/.pex-root sh /var/tmp/unpack /usr/bin/python3 /var/tmp/agent.pex \
    "$install_folder/$VERSION"
ln -sfn "$VERSION" "$install_folder/current"
chmod 0644 /etc/systemd/system/sappers.service
systemctl --quiet enable sappers.service
"$install_folder/current/bin/sappers" --help >/dev/null
