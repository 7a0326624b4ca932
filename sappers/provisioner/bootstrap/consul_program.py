"""A Consul binary from Debian's archive, without installing its package.

Debian 12 has none in its own archive; Debian 11's, 1.8.7, runs there. Its package would start an
agent of its own, so that only the binary is taken. apt checks it against Debian's signatures; it
looks at the archive that the machine uses already, and no setting of it stays behind.
"""

from __future__ import annotations

CONSUL_VERSION = "1.8.7"
CONSUL_LEAST_VERSION = (1, 8)

# $1 is where the program goes, the rest are options for apt. The archive is one that the
# machine's sources name for its own release; no third party's has a bullseye that Debian signed.
FETCH_CONSUL = """\
set -eu
into=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$release" \
        '($1 == release || $1 == "stable") && $2 == "main" { print $3 }' |
    sort -u > "$work/archives"
[ -s "$work/archives" ] || {
    echo "E: apt has no source of $release main on this machine" >&2
    exit 1
}
apt() {
    apt-get -q -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}
take() {
    cat > "$work/sources/consul.sources" <<EOF
Types: deb
URIs: $1
Suites: bullseye
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
    shift
    apt "$@" update </dev/null && (cd "$work" && apt "$@" download consul </dev/null)
}
while read -r archive; do
    if take "$archive" "$@"; then
        break
    fi
done < "$work/archives"
dpkg-deb --extract "$work"/consul_*.deb "$work/root"
mkdir -p "$(dirname "$into")"
cp "$work/root/usr/bin/consul" "$into.new"
chmod 0755 "$into.new"
sync "$into.new"
mv "$into.new" "$into"
"""
