SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	if (remote_port_is(4000) &&
	    test_0(ctx))
		return answer(ctx, 0); // odd (rules.toml:6)
	if (is_ipv4(ctx) &&
	    test_1(ctx))
		return answer(ctx, 1); // twins (rules.toml:12)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
