#!/bin/sh
# RPM packages, and a repository of them that dnf knows of: make_rpms.sh FOLDER
set -eu
make() {  # name version requires
    mkdir -p "$work/tree/opt/$1"
    echo "$2" > "$work/tree/opt/$1/version"
    printf '%s\n' "Name: $1" "Version: $2" "Release: 1" "Summary: of the corpus" "License: none" "BuildArch: noarch" \
        ${3:+"Requires: $3"} "%description" "Of the corpus." "%install" "mkdir -p %{buildroot}/opt/$1" \
        "cp $work/tree/opt/$1/version %{buildroot}/opt/$1/version" "%files" "/opt/$1" > "$work/$1.spec"
    rpmbuild -bb --quiet --define "_topdir $work" --define "_rpmdir $to" "$work/$1.spec" 2> /dev/null
}
to=$1
work=$(mktemp -d)
mkdir -p "$to" /etc/yum.repos.d
make corpus-r-one 1.0 ''
make corpus-r-one 2.0 ''
make corpus-r-two 1.0 corpus-r-lib
make corpus-r-lib 1.0 ''
make corpus-r-three 1.0 ''
createrepo_c --quiet "$to"
printf '%s\n' '[corpus]' 'name=corpus' "baseurl=file://$to" 'gpgcheck=0' > /etc/yum.repos.d/corpus.repo
rm -r "$work"
