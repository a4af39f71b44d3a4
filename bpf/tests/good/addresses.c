SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 remote_ip4 = FIELD(remote_ip4);
	u64 local_ip6_0 = FIELD(local_ip6[0]);

	if (remote_ip4 == IPV4(192, 0, 2, 1) &&
	    is_ipv4(ctx))
		return answer(ctx, 0); // host (rules.toml:1)
	if (within(NET32(remote_ip4), 0x2c000000, 0x2cbfffff) &&
	    is_ipv4(ctx))
		return answer(ctx, 1); // amprnet (rules.toml:6)
	if (((FIELD(local_ip6[1]) & PREFIX(12)) == NET32(0x00400000) && local_ip6_0 == NET32(0x20010db8)) &&
	    ((FIELD(remote_ip6[1]) & PREFIX(12)) == NET32(0x00400000) && FIELD(remote_ip6[0]) == NET32(0x20010db8)))
		return answer(ctx, 2); // same-datacentre (rules.toml:11)
	if ((FIELD(local_ip6[3]) == NET32(0x00000001) && FIELD(local_ip6[2]) == NET32(0x00000000) && FIELD(local_ip6[1]) == NET32(0x00000000) && local_ip6_0 == NET32(0x20010db8)) ||
	    (local_ip6_0 & PREFIX(8)) == NET32(0xfd000000) ||
	    ((FIELD(local_ip4) & PREFIX(8)) == IPV4(10, 0, 0, 0) &&
	    is_ipv4(ctx)))
		return answer(ctx, 3); // both-families (rules.toml:17)
	if ((remote_ip4 & PREFIX(24)) == IPV4(198, 51, 100, 0) &&
	    is_ipv4(ctx))
		return answer(ctx, 4); // mapped-is-ipv4 (rules.toml:22)
	if (!is_ipv4(ctx))
		return answer(ctx, 5); // all-ipv6 (rules.toml:27)
	if (is_ipv4(ctx))
		return answer(ctx, 6); // rest (rules.toml:32)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
