SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 remote_ip4 = FIELD(remote_ip4);

	if (within(NET32(remote_ip4), 0x2c000000, 0x2cbfffff) &&
	    !is_incoming(ctx) &&
	    is_ipv4(ctx))
		return answer(ctx, 0); // file (rules.toml:7)
	if (((FIELD(remote_ip6[1]) & PREFIX(16)) == NET32(0x00010000) && FIELD(remote_ip6[0]) == NET32(0x20010db8)) ||
	    ((within(NET32(remote_ip4), 0x0a010000, 0x0a02ffff) ||
	    (remote_ip4 & PREFIX(24)) == IPV4(192, 0, 2, 0)) &&
	    is_ipv4(ctx)))
		return answer(ctx, 1); // column (rules.toml:13)
	if ((FIELD(local_ip4) & PREFIX(15)) == IPV4(10, 2, 0, 0) &&
	    is_ipv4(ctx))
		return answer(ctx, 2); // nested (rules.toml:19)
	if ((FIELD(local_port) == 80 ||
	    within(FIELD(local_port), 8000, 8999)) &&
	    within(NET32(remote_ip4), 0x2c000000, 0x2cbfffff) &&
	    is_ipv4(ctx))
		return answer(ctx, 3); // named (rules.toml:24)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
