"""The reference play of `make bench-provisioner` in pyinfra's words, as site.yml beside it."""

from io import StringIO

from pyinfra import host
from pyinfra.operations import files, server, systemd

PORTS = [7946, 11000, 12000]

for path, mode in (
    ("/opt/reference", "755"),
    ("/opt/reference/bin", "755"),
    ("/opt/reference/etc", "750"),
    ("/var/lib/reference", "700"),
):
    files.directory(name=f"folder {path}", path=path, user="root", group="root", mode=mode)

server.user(
    name="user",
    user="reference",
    system=True,
    home="/var/lib/reference",
    ensure_home=False,
    shell="/usr/sbin/nologin",
)

files.put(
    name="file of 270 kB",
    src="payload",
    dest="/opt/reference/bin/payload",
    user="root",
    group="root",
    mode="755",
)

files.template(
    name="template",
    src="reference.conf.j2",
    dest="/opt/reference/etc/reference.conf",
    user="root",
    group="reference",
    mode="640",
    inventory_hostname=host.name,
    ports=PORTS,
)

files.put(
    name="unit",
    src="reference.service",
    dest="/etc/systemd/system/reference.service",
    user="root",
    group="root",
    mode="644",
)

files.line(name="line in a file", path="/etc/profile", line="export REFERENCE_HOME=/opt/reference")

systemd.service(name="service", service="reference.service", running=True, enabled=True)

server.shell(name="command", commands=["systemctl is-active reference.service"])

files.link(name="link", path="/usr/local/bin/reference", target="/opt/reference/bin/payload")

files.put(
    name="marker",
    src=StringIO("reference 1\n"),
    dest="/opt/reference/installed",
    user="root",
    group="root",
    mode="644",
)
