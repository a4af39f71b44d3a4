SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 remote_ip4 = FIELD(remote_ip4);
	u64 remote_ip6_0 = FIELD(remote_ip6[0]);
	u64 remote_ip6_1 = FIELD(remote_ip6[1]);

	if (((remote_ip6_1 & PREFIX(16)) == NET32(0x00000000) && remote_ip6_0 == NET32(0x20010db8)) ||
	    (!below(remote_ip6(ctx), 0x20010db800020000, 0x0000000000000000) && below(remote_ip6(ctx), 0x20010db900000000, 0x0000000000000000)) ||
	    (is_ipv4(ctx) &&
	    ((remote_ip4 & PREFIX(16)) == IPV4(44, 0, 0, 0) ||
	    within(NET32(remote_ip4), 0x2c020000, 0x2c3fffff) ||
	    (remote_ip4 & PREFIX(10)) == IPV4(44, 128, 0, 0))))
		return answer(ctx, 0); // all (rules.toml:3)
	if (((remote_ip6_1 & PREFIX(16)) == NET32(0x00010000) && remote_ip6_0 == NET32(0x20010db8)) ||
	    (((remote_ip4 & PREFIX(23)) == IPV4(44, 1, 0, 0) ||
	    within(NET32(remote_ip4), 0x2c010300, 0x2c01ffff)) &&
	    is_ipv4(ctx)))
		return answer(ctx, 1); // net (rules.toml:9)
	if (remote_ip4 == IPV4(44, 1, 2, 3) &&
	    is_ipv4(ctx))
		return answer(ctx, 2); // host-of-all (rules.toml:15)
	if (is_ipv4(ctx) &&
	    (within(NET32(remote_ip4), 0x2c010200, 0x2c010202) ||
	    within(NET32(remote_ip4), 0x2c010204, 0x2c0102ff) ||
	    (remote_ip4 & PREFIX(10)) == IPV4(44, 64, 0, 0)))
		return answer(ctx, 3); // hole (rules.toml:21)
	if (is_ipv4(ctx))
		return answer(ctx, 4); // rest (rules.toml:27)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
