#!/bin/busybox sh
# What procd does at boot, as far as init scripts can see: proc, sys and dev, then /etc/rc.d in order.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
ip link set lo up
/etc/init.d/set-rto enable
for script in /etc/rc.d/S*; do
	"$script" boot >/dev/console 2>&1
done
sh /payload/test.sh
poweroff -f
