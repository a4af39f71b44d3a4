SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 local_port = FIELD(local_port);
	u64 remote_port = HOST(remote_port);
	u64 remote_ip4 = FIELD(remote_ip4);

	if (local_port == remote_port)
		return answer(ctx, 0); // same-port (rules.toml:1)
	if (local_port != 7300 &&
	    remote_port != 7300 &&
	    (remote_ip4 & PREFIX(8)) == IPV4(44, 0, 0, 0) &&
	    is_ipv4(ctx))
		return answer(ctx, 1); // amprnet-but-one-port (rules.toml:6)
	if (!is_incoming(ctx) &&
	    (local_port == 22 ||
	    within(local_port, 8000, 8999) ||
	    FIELD(remote_ip6[0]) == NET32(0x20010db8) ||
	    (remote_ip4 == IPV4(192, 0, 2, 1) &&
	    is_ipv4(ctx))))
		return answer(ctx, 2); // sets (rules.toml:11)
	if (remote_port >= 32768 &&
	    local_port < remote_port)
		return answer(ctx, 3); // orders (rules.toml:16)
	if (same_address(ctx))
		return answer(ctx, 4); // same-address (rules.toml:21)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
