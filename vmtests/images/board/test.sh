# Runs on the machine, as root. Connections to where nobody answers: their timers as the kernel tells them, and on the
# wire, which qemu captures.
. /payload/lib.sh

# The card, or where there is none, something that takes packets as well. Nobody is asked for addresses.
[ -e /sys/class/net/eth0 ] || ip link add eth0 type dummy
ip link set eth0 arp off
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -6 addr add 2001:db8::1/32 dev eth0
ip route add default dev eth0

check not_there_yet exits 3 set-rto status
check before between 30 100 proc_timer 192.0.2.2 12345
check install has 'installed: 7 rules' set-rto install
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
check install_again has 'already installed' set-rto install
check same_link is "$link" field link_id

# From 5555 to 5555: the only port that is left to choose.
range=/proc/sys/net/ipv4/ip_local_port_range
ports=$(cat $range)
echo 5555 5555 >$range
nc 192.0.2.2 5555 </dev/null >/dev/null 2>&1 &
sleep 1
echo "$ports" >$range
for port in 12345 12346 14640 7999 8000 8999 9000; do
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
