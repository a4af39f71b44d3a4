# Runs on the machine, as root. Connections to silent addresses: their timers as the kernel reports them, and on the
# wire, which qemu captures.
. /payload/lib.sh

# The network card, or without one a dummy. No address resolution is needed.
[ -e /sys/class/net/eth0 ] || ip link add eth0 type dummy
ip link add dm0 type dummy
ip link set eth0 arp off
# Nor are there any that come later by themselves.
for file in /proc/sys/net/ipv6/conf/*/addr_gen_mode; do echo 1 >$file; done
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -6 addr add 2001:db8::1/32 dev eth0
ip route add default dev eth0
# A second device. Its second network is reached from an address of the first one.
ip addr add 198.18.0.1/24 dev dm0
ip -6 addr add fd00:18::1/64 dev dm0
ip link set dm0 up
ip route add 198.18.1.0/24 dev dm0 src 192.0.2.1

# install of rules about devices that are in force already says nothing where nothing has changed.
quiet() {
	is '' "$@"
}

# The device of a connection by the given method.
devices() {
	case $1 in
	route) check route_method has 'interfaces by the device of the route' set-rto status ;;
	*) check address_method has 'interfaces by the device that has the local address' set-rto status ;;
	esac
	check $1_device between 200 250 proc_timer 198.18.0.2 80
	check $1_device_ipv6 has 'rule                 device' set-rto try [fd00:18::2]:80
	check $1_other_device between 30 100 proc_timer 192.0.2.2 80
	case $1 in
	route) check route_address_of_another has 'rule                 device' set-rto try 198.18.1.2:80 ;;
	*) check address_route_of_another not has 'rule                 device' set-rto try 198.18.1.2:80 ;;
	esac
}

check not_there_yet exits 3 set-rto status
check before between 30 100 proc_timer 192.0.2.2 12345
check can_run exits 0 set-rto check
check install has 'installed: 11 rules' set-rto install
check status exits 0 set-rto status
check hz is 250 field hz
check timer_20_s between 1930 2000 proc_timer 192.0.2.2 4242
check timer_3_s between 230 300 proc_timer 192.0.2.2 12345
check timer_others between 30 100 proc_timer 192.0.2.2 12346
check tried has 'timer 20 s (5000 jiffies at HZ 250)' set-rto try 192.0.2.2:4242
check tried_rule has 'rule                 long' set-rto try 192.0.2.2:4242
check tried_jiffies has '(4 jiffies at HZ 250)' set-rto try 203.0.113.7:80
check counted has 'long: rto 20s (5000 jiffies), 3 connections' set-rto status
link=$(field link_id)
check install_again quiet set-rto install --quiet
check same_link is "$link" field link_id

# With BTF, from the kernel or in the binary: by route, and by address on request.
method=address
[ -e /sys/kernel/btf/vmlinux ] && method=route
[ -e /payload/btf ] && method=route
devices $method
case $method in
route)
	check ask_for_address has 'the device that has the local address, asked for' set-rto install --interface-method address
	devices address
	check route_again has 'by the device of the route' set-rto install
	;;
*)
	check ask_for_route exits 2 set-rto install --interface-method route
	check still_installed is "$link" field link_id
	;;
esac
ip addr add 198.18.2.1/24 dev dm0
check new_address has 'addresses read again' set-rto install
check of_new_address between 200 250 proc_timer 198.18.2.2 80

# A second program notes by which device a SYN came in.
check arrivals is true field arrivals
nc -l -p 7070 </dev/null >/dev/null 2>&1 &
usleep 200000
nc 127.0.0.1 7070 </dev/null >/dev/null 2>&1
check arrival has 'arrival: rto 900ms (225 jiffies), 1 connection' set-rto status

# Numbers of socket options differ between machines.
for setting in 'user_timeout         12345 ms' 'keepalive            1 ' 'keepalive_idle       90 s' \
	'sndbuf               16000 bytes' 'mark                 7 ' 'priority             5 ' 'tos                  32 '; do
	check "setting ${setting%% *}" has "$setting" set-rto try 192.0.2.2:8443
done
check nothing_refused not has refused set-rto status

# From 5555 to 5555: the only port that is left to choose.
range=/proc/sys/net/ipv4/ip_local_port_range
ports=$(cat $range)
echo 5555 5555 >$range
nc 192.0.2.2 5555 </dev/null >/dev/null 2>&1 &
sleep 1
echo "$ports" >$range
for port in 12345 12346 14640 7999 8000 8999 9000 9100; do
	nc 192.0.2.2 $port </dev/null >/dev/null 2>&1 &
done
for address in 198.51.95.255 198.51.96.0 198.51.111.255 198.51.112.0 2001:db8:5fff::1 2001:db8:6000::1 203.0.113.9; do
	nc $address 80 </dev/null >/dev/null 2>&1 &
done
sleep 6
killall nc

check remove set-rto remove
check gone exits 3 set-rto status
check nothing_pinned test ! -e /sys/fs/bpf/set-rto
check timer_of_the_kernel between 30 100 proc_timer 192.0.2.2 4242
finish
