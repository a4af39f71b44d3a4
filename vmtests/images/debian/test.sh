# Runs in the guest under systemd, as root: what the Debian package and its unit promise.
. /payload/lib.sh

stamp() {
	systemctl show --value -p "$1" "$2"
}

before() {
	[ "$1" -gt 0 ] && [ "$1" -le "$2" ] || {
		echo "not in order: $1, $2"
		return 1
	}
}

for try in $(seq 100); do
	ip -4 -o addr show dev radio0 2>/dev/null | grep -q 198.51.100.1 && break
	sleep 0.2
done

## At boot
check boot_active is active systemctl is-active set-rto
check boot_status exits 0 set-rto status
done_at=$(stamp ExecMainExitTimestampMonotonic set-rto.service)
check boot_before_network_pre before "$done_at" "$(stamp ActiveEnterTimestampMonotonic network-pre.target)"
check boot_before_networkd before "$done_at" "$(stamp ExecMainStartTimestampMonotonic systemd-networkd.service)"
check boot_interface_that_came_later is 20000 timer 192.0.2.2 12345
check boot_other_port_is_the_kernels is 1000 timer 192.0.2.2 12346
check boot_table is 10000 timer 198.51.100.2 80
# Settings were tried, in the sandbox too.
check boot_settings_were_tried not grep -q 'could not be tried' <(journalctl -b -u set-rto -o cat)
check boot_log has 'installed: 2 rules' journalctl -b -u set-rto -o cat

## The sandbox: the unit with other commands in it
mkdir -p /run/systemd/system
sed -e '/^Exec/d' -e '/^\[Install\]/,$d' -e 's/^RemainAfterExit=.*/ExecStart=\/bin\/sh \/payload\/sandbox.sh/' \
	/usr/lib/systemd/system/set-rto.service >/run/systemd/system/sandbox.service
systemctl daemon-reload
check sandbox_holds systemctl start sandbox
check sandbox_said is '' journalctl -b -u sandbox -o cat -t sh

## Addresses instead of routes, in the sandbox: another namespace with the same address is another network
mkdir -p /run/systemd/system/set-rto.service.d
printf '[Service]\nExecReload=\nExecReload=/usr/sbin/set-rto install --interface-method address\n' \
	>/run/systemd/system/set-rto.service.d/address.conf
systemctl daemon-reload
check address_reload systemctl reload set-rto
check address_method is '"address"' field interface_method
check address_timer is 20000 timer 192.0.2.2 12345
ip netns add other
ip -n other link add eth0 type dummy
ip -n other addr add 192.0.2.1/24 dev eth0
ip -n other link set eth0 up
other_timer() {
	ip netns exec other bash -c ". /payload/lib.sh; timer $1 $2"
}
check address_of_another_namespace is 1000 other_timer 192.0.2.2 12345
check address_here_still is 20000 timer 192.0.2.2 12345
rm -r /run/systemd/system/set-rto.service.d
ip netns del other
systemctl daemon-reload

## Reload
link=$(field link_id)
check reload systemctl reload set-rto
check reload_keeps_the_link is "$link" field link_id
check reload_status exits 0 set-rto status

## Upgrade: the old binary keeps asking for timers
cp /usr/sbin/set-rto /run/sampler
sample() {
	while [ -e /run/sampling ]; do
		/run/sampler try 192.0.2.2:12345 | grep -o 'timer [0-9]* s'
	done >/run/samples
}
touch /run/sampling
sample &
sampler=$!
sleep 1
check upgrade_unpack dpkg --unpack /payload/2.deb
check upgrade_between_is_4 exits 4 set-rto status
check upgrade_between_is_old is 20000 timer 192.0.2.2 12345
check upgrade_configure dpkg --configure set-rto
check upgrade_status exits 0 set-rto status
check upgrade_link is "$link" field link_id
check upgrade_timer is 30000 timer 192.0.2.2 12345
check upgrade_unit_stays_active is active systemctl is-active set-rto
check downgrade dpkg --force-downgrade -i /payload/1.deb
check downgrade_status exits 0 set-rto status
check downgrade_link is "$link" field link_id
check downgrade_timer is 20000 timer 192.0.2.2 12345
# Rules that this kernel refuses leave the old ones attached, and do not break the package manager.
check refused has 'the old rules stay attached' dpkg -i /payload/3.deb
check refused_status exits 4 set-rto status
check refused_link is "$link" field link_id
check refused_timer is 20000 timer 192.0.2.2 12345
check refused_is_configured is 'install ok installed' dpkg-query -f '${Status}' -W set-rto
dpkg -i /payload/2.deb >/dev/null 2>&1
check mended_status exits 0 set-rto status
rm /run/sampling
wait $sampler
check sampled_often test "$(wc -l </run/samples)" -ge 50
check never_without_policy is "timer 20 s
timer 30 s" sort -u /run/samples

## Stop, start, removal
check stop systemctl stop set-rto
check stop_status exits 3 set-rto status
check stop_timer is 1000 timer 192.0.2.2 12345
check upgrade_of_a_stopped_one dpkg -i /payload/1.deb
check stopped_stays_stopped exits 3 set-rto status
check start systemctl enable --now set-rto
check start_timer is 20000 timer 192.0.2.2 12345
# Removed from another root, with the host's /proc, /sys and /run: its rules are the host's.
mkdir -p /run/root
mount -t tmpfs tmpfs /run/root
cp -a /bin /sbin /lib* /run/root
for dir in usr etc var proc sys dev; do
	mkdir /run/root/$dir
	mount --rbind /$dir /run/root/$dir
	# Otherwise the unmounting would reach the host's mounts.
	mount --make-rslave /run/root/$dir
done
mkdir -p /run/root/run/systemd/system
check chroot_prerm chroot /run/root /var/lib/dpkg/info/set-rto.prerm remove
check chroot_leaves_the_rules_of_the_host is 20000 timer 192.0.2.2 12345
umount -l /run/root
check remove dpkg -r set-rto
check remove_unpins test ! -e /sys/fs/bpf/set-rto
check remove_timer is 1000 timer 192.0.2.2 12345
dpkg -P set-rto
check purge_disables test ! -h /etc/systemd/system/sysinit.target.wants/set-rto.service
check by_hand_install dpkg -i /payload/1.deb
check by_hand set-rto install
check by_hand_timer is 20000 timer 192.0.2.2 12345
check by_hand_purge dpkg -P set-rto
check by_hand_purge_timer is 1000 timer 192.0.2.2 12345
check purge_leaves_nothing is '' find / -xdev -name '*set-rto*' -not -path '/payload/*' -not -path '/proc/*' -not -path '/var/log/*'

## The commands of the README
mkdir -p /run/readme/target/dist/x86_64
cp /payload/1.deb "/run/readme/target/dist/x86_64/set-rto_$(dpkg-deb -f /payload/1.deb Version)_amd64.deb"
cd /run/readme
check readme bash -e /payload/readme.sh
cd /
check readme_status exits 0 set-rto status
check readme_enabled is enabled systemctl is-enabled set-rto
check readme_timer is 20000 timer 192.0.2.2 12345
check readme_purge dpkg -P set-rto

## With Debian's own libbpf, as in a package of Debian's
linked=/payload/linked
check linked_is_dynamic has 'libbpf.so.1 =>' ldd $linked
check linked_install $linked install
check linked_timer is 20000 timer 192.0.2.2 12345
check linked_status exits 0 $linked status
check linked_table is 10000 timer 198.51.100.2 80
check linked_remove $linked remove
check linked_remove_timer is 1000 timer 192.0.2.2 12345
finish
systemctl poweroff -ff
