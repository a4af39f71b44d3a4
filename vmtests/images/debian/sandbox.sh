# Runs in the sandbox of the unit. Prints what succeeds although the sandbox should forbid it.
refused() {
	if "$@" 2>/dev/null; then
		echo "not refused: $*"
		failed=1
	fi
}

failed=0
for file in /etc/x /usr/x /var/x /root/x /proc/sys/kernel/x; do
	refused touch "$file"
done
refused mount -t tmpfs tmpfs /mnt
refused unshare -n true
refused unshare -m true
refused chown 1 /sys/fs/bpf
refused nsenter -t 1 -m true
bounding=$(awk '/^CapBnd:/ { print $2 }' /proc/self/status)
# CAP_DAC_OVERRIDE (1), CAP_NET_ADMIN (12), CAP_PERFMON (38), CAP_BPF (39), and no other.
[ "$bounding" = 000000c000001002 ] || {
	echo "capabilities: $bounding"
	failed=1
}
awk '/^NoNewPrivs:/ { exit $2 != 1 }' /proc/self/status || {
	echo "new privileges"
	failed=1
}
exit $failed
