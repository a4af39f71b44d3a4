#!/bin/busybox sh
# The first program of a machine that has nothing but busybox and set-rto.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r module; do
	insmod "$module" || echo "cannot load $module"
done </modules
ip link set lo up
sh /payload/test.sh
poweroff -f
