# Runs in the guest, as root, after its init scripts.
. /payload/lib.sh

ip link add radio0 type dummy
ip addr add 192.0.2.1/24 dev radio0
ip addr add 198.51.100.1/24 dev radio0
ip link set radio0 up

check no_kernel_config test ! -e /proc/config.gz -a ! -e /boot
check no_btf test ! -e /sys/kernel/btf/vmlinux
check boot_installed exits 0 set-rto status
check boot_mounted_bpffs grep -q ' /sys/fs/bpf bpf ' /proc/mounts
check boot_mounted_cgroup2 grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts
check hz is 100 field hz
check timer_20_s between 1930 2000 proc_timer 192.0.2.2 12345
check timer_others between 1 100 proc_timer 192.0.2.2 12346
# 15 ms are two of the kernel's ticks.
check rounded_up has '2 jiffies at HZ 100' set-rto try 198.51.100.2:80

link=$(field link_id)
# What procd does when netifd reports an interface: nothing if the service is not registered.
trigger() {
	[ ! -e /tmp/trigger ] || sh -c "$(cat /tmp/trigger)"
}
# `install --quiet` prints errors only.
check method is '"address"' field interface_method
check device_came_later between 1 100 proc_timer 192.0.2.2 12347
check trigger is '' trigger
check trigger_device_is_known between 430 500 proc_timer 192.0.2.2 12347
check trigger_keeps_the_link is "$link" field link_id
ip addr del 192.0.2.1/24 dev radio0
ip addr add 192.0.2.7/24 dev radio0
check address_is_new between 1 100 proc_timer 192.0.2.2 12347
check trigger_new_address is '' trigger
check trigger_new_address_is_known between 430 500 proc_timer 192.0.2.2 12347
check reload /etc/init.d/set-rto reload
check restart /etc/init.d/set-rto restart
check restart_keeps_the_link is "$link" field link_id
check stop /etc/init.d/set-rto stop
check stop_status exits 3 set-rto status
check stop_timer between 1 100 proc_timer 192.0.2.2 12345
check trigger_does_not_start_what_was_stopped is '' trigger
check trigger_left_it_stopped exits 3 set-rto status
check start /etc/init.d/set-rto start
check start_timer between 1930 2000 proc_timer 192.0.2.2 12345
finish
