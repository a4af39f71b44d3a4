SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (ctx->op != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	// slow (rules.toml:5): port == 12345 -> rto 20s
	if (ctx->local_port == 12345 ||
	    remote_port(ctx) == 12345)
		return answer(ctx, 0);

	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
