#!/bin/sh
# Hands the root out, as a tar, without what belongs to one machine or to this build: every machine
# makes its own. What services write at any time is left out here, since they may do so again.
set -eu
: >/etc/machine-id
find /var/log -type f -delete
mount --bind / /mnt # what is mounted over it is not in it
tar --create --file /dev/virtio-ports/root --directory /mnt --numeric-owner --sort=name \
    --blocking-factor=64 --anchored --exclude-from=- . <<'END'
./etc/ssh/ssh_host_*
./root/.*_history
./root/.cache
./root/.ssh
./tmp/*
./var/backups/*
./var/cache/apt/*.bin
./var/cache/ldconfig/*
./var/lib/dhcp/*
./var/lib/systemd/credential.secret
./var/lib/systemd/random-seed
./var/lib/systemd/timers/*
./var/lib/systemd/timesync/*
./var/log/*tmp
./var/log/journal/*
./var/log/lastlog
./var/tmp/*
END
umount /mnt
sync
