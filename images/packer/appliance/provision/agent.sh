#!/bin/sh
# Installs the agent's bundle as bootstrap does, so that a later bootstrap finds it in its place.
set -eu
install_folder=/opt/sappers
mkdir -p "$install_folder"
PEX_ROOT=$install_folder/.pex-root sh /var/tmp/unpack /usr/bin/python3 /var/tmp/agent.pex \
    "$install_folder/$VERSION"
ln -sfn "$VERSION" "$install_folder/current"
rm -f /var/tmp/agent.pex /var/tmp/unpack
chmod 0644 /etc/systemd/system/sappers.service
systemctl --quiet enable sappers.service
"$install_folder/current/bin/sappers" --help >/dev/null
