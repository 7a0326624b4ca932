#!/bin/sh
# Debian packages, and a repository of them: make_packages.sh FOLDER
set -eu
export SOURCE_DATE_EPOCH=1500000000
make() {  # name version depends
    tree=$work/$1-$2
    mkdir -p "$tree/DEBIAN" "$tree/opt/$1" "$tree/etc/$1"
    echo "$2" > "$tree/opt/$1/version"
    echo "setting of $2" > "$tree/etc/$1/conf"
    echo "/etc/$1/conf" > "$tree/DEBIAN/conffiles"
    printf '%s\n' "Package: $1" "Version: $2" "Architecture: all" "Maintainer: Nobody <nobody@example.org>" \
        "Depends: $3" "Description: of the corpus" | sed '/^Depends: $/d' > "$tree/DEBIAN/control"
    find "$tree" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
    dpkg-deb --root-owner-group -Znone --build "$tree" "$to/$1_$2_all.deb" > /dev/null
}
to=$1
work=$(mktemp -d)
mkdir -p "$to"
make corpus-one 1.0 ''
make corpus-one 2.0 ''
make corpus-two 1.0 corpus-lib
make corpus-lib 1.0 ''
make corpus-three 1.0 ''
cd "$to"
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf '%s\n' "Filename: ./$deb" "Size: $(stat -c %s "$deb")" \
        "SHA256: $(sha256sum "$deb" | cut -d ' ' -f 1)" ''
done > Packages
rm -r "$work"
