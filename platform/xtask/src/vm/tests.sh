# Goes on in the root file system; what is set above comes from xtask.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Everything is some ten times slower here.
export BERTH_TEST_PATIENCE_S=120
mkdir -p "/lib/modules/$(uname -r)" /var/lib/berth-test /var/lib/berth-machine
mount --bind "$MODULES" "/lib/modules/$(uname -r)"
# The disk can bound folders; the machine's registry is its own.
modprobe quota_v2 && mount -t ext4 -o prjquota /dev/vda /var/lib/berth-test
mount -t tmpfs -o mode=755 machine /var/lib/berth-machine
modprobe loop
modprobe dummy
# A way out that leads nowhere, so that the rules which name it are made.
ip link set lo up
ip link add eth0 type dummy
ip addr add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip route add default via 192.0.2.1

run() {
    # One word per name; no test has a space in it.
    # shellcheck disable=SC2086
    "$1" --color=never --test-threads=2 $SKIPPED $FILTER
    echo "berth-vm: file $1 ended with $?"
}

finish() {
    echo "berth-vm: done"
    busybox poweroff -f
}

