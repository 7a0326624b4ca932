#!/bin/busybox sh
# PID 1 of a guest whose root is a disk. Should it fail, the kernel panics and the member sees it.
set -e
busybox=/bin/busybox
$busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    $busybox insmod "$module"
done
lower=
number=1
while [ $number -le @LAYERS@ ]; do
    until [ -b /dev/vda$number ]; do $busybox usleep 10000; done
    $busybox mkdir /layers/$number
    $busybox mount -t erofs -o ro /dev/vda$number /layers/$number
    lower=/layers/$number${lower:+:$lower}
    number=$((number + 1))
done
$busybox mount -t tmpfs -o mode=755 writable /writable
$busybox mkdir /writable/files /writable/work
$busybox mount -t overlay -o "lowerdir=$lower,upperdir=/writable/files,workdir=/writable/work" root /root
$busybox mount --move /dev /root/dev
exec $busybox switch_root /root /init
