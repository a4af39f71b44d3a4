SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	if (is_ipv4(ctx)) {
		if (FIELD(remote_ip4) == IPV4(192, 0, 2, 1))
			return answer(ctx, 0); // host (rules.toml:1)
		if ((FIELD(remote_ip4) & PREFIX(24)) == IPV4(198, 51, 100, 0)) {
			if ((FIELD(local_ip4) & PREFIX(8)) == IPV4(10, 0, 0, 0))
				goto n1;
			return answer(ctx, 4); // mapped-is-ipv4 (rules.toml:22)
		}
		if ((FIELD(remote_ip4) & PREFIX(9)) == IPV4(44, 0, 0, 0) ||
		    (FIELD(remote_ip4) & PREFIX(10)) == IPV4(44, 128, 0, 0))
			return answer(ctx, 1); // amprnet (rules.toml:6)
		if ((FIELD(local_ip4) & PREFIX(8)) == IPV4(10, 0, 0, 0))
			goto n1;
		return answer(ctx, 6); // rest (rules.toml:32)
	}
	if ((FIELD(local_ip6[0]) == NET32(0x20010db8) && (FIELD(local_ip6[1]) & PREFIX(12)) == NET32(0x00400000))) {
		if ((FIELD(remote_ip6[0]) == NET32(0x20010db8) && (FIELD(remote_ip6[1]) & PREFIX(12)) == NET32(0x00400000)))
			return answer(ctx, 2); // same-datacentre (rules.toml:11)
		return answer(ctx, 5); // all-ipv6 (rules.toml:27)
	}
	if ((FIELD(local_ip6[0]) == NET32(0x20010db8) && FIELD(local_ip6[1]) == NET32(0x00000000) && FIELD(local_ip6[2]) == NET32(0x00000000) && FIELD(local_ip6[3]) == NET32(0x00000001)) ||
	    (FIELD(local_ip6[0]) & PREFIX(8)) == NET32(0xfd000000))
		goto n1;
	return answer(ctx, 5); // all-ipv6 (rules.toml:27)

n1:
	return answer(ctx, 3); // both-families (rules.toml:17)
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
