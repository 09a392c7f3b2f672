#!/bin/busybox sh
# The machine's first process, in its memory disk: brings in the root file system of the machine
# that it runs on, read-only under a layer of memory, and hands over to the tests.
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host /memory /root
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod "$module" || echo "berth-vm: cannot load $module"; done
busybox mount -t virtiofs -o ro host /host
busybox mount -t tmpfs -o size=512m memory /memory
busybox mkdir /memory/upper /memory/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root
busybox mount -t proc proc /root/proc
busybox mount -t sysfs sysfs /root/sys
busybox mount -t cgroup2 cgroup /root/sys/fs/cgroup
busybox mount -t devtmpfs dev /root/dev
busybox mkdir -p /root/dev/pts /root/dev/shm /root/dev/mqueue
busybox mount -t devpts -o ptmxmode=666 devpts /root/dev/pts
busybox mount -t tmpfs -o mode=1777 shm /root/dev/shm
busybox mount -t tmpfs -o mode=755 run /root/run
busybox cp /tests.sh /root/run/tests.sh
busybox umount /proc
exec busybox switch_root /root /bin/sh /run/tests.sh
