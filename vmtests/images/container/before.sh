#!/bin/sh
# Run in the image before it boots: no systemd there, this is its init.
set -e
cat >/sbin/init <<END
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# podman looks for AppArmor there, and loads its profile.
mount -t securityfs securityfs /sys/kernel/security
# podman names the pod after it. Its default is "(none)".
echo guest >/proc/sys/kernel/hostname
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf -o mode=0700
bash /payload/test.sh
echo o >/proc/sysrq-trigger
sleep 10
END
chmod 755 /sbin/init
