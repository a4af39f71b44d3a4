static __always_inline u64 rule_of(struct bpf_sock_ops *ctx)
{
	u64 remote_port = HOST(remote_port);

	if (remote_port == 4000 &&
	    !is_incoming(ctx) &&
	    (OF_SOCKET(mark) & 0xff00) == 256)
		return 0; // marked (rules.toml:3)
	if ((!is_incoming(ctx) &&
	    !(OF_SOCKET(priority) < 7)) ||
	    (!is_incoming(ctx) &&
	    (OF_SOCKET(priority) == 4 ||
	    OF_SOCKET(priority) == 6)))
		return 1; // important (rules.toml:8)
	if ((FIELD(remote_ip4) & PREFIX(24)) == IPV4(192, 0, 2, 0) &&
	    is_ipv4(ctx) &&
	    (is_incoming(ctx) ||
	    !(OF_SOCKET(mark) == 5)))
		return 2; // others (rules.toml:13)
	if ((remote_port == 4001 &&
	    !is_incoming(ctx) &&
	    (tos_of(ctx) & 0xe0) == 160) ||
	    (!is_incoming(ctx) &&
	    (tos_of(ctx) == 16 ||
	    tos_of(ctx) == 184)))
		return 3; // expedited (rules.toml:18)
	return NONE;
}

SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 op = callback();

	if (op > BPF_SOCK_OPS_RTO_CB || one_by_one(op) == 7 || one_by_one(op) == 6 || one_by_one(op) == 3 || one_by_one(op) == 2)
		return 1;

	u64 rule;

	ctx = over_calls(ctx);
	rule = opaque(ctx, rule_of(ctx));
	if (rule >= RULES)
		return 1;
	return observe(ctx, rule);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
