SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	return answer(ctx, 0); // a (rules.toml:6)
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
