SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (ctx->op != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	// listen (rules.toml:1): local_port in {22, 8000-8999} -> rto 300ms
	if (ctx->local_port == 22 ||
	    within(ctx->local_port, 8000, 8999))
		return answer(ctx, 0);

	// any-end (rules.toml:6): port in {1-1023, 65535} and direction == "outgoing" -> rto 120s
	if (!is_incoming(ctx) &&
	    (within(ctx->local_port, 1, 1023) ||
	     ctx->local_port == 65535 ||
	     within(remote_port(ctx), 1, 1023) ||
	     remote_port(ctx) == 65535))
		return answer(ctx, 1);

	// answers (rules.toml:12): remote_port == 53 and direction == "incoming" -> rto 1ms
	if (is_incoming(ctx) &&
	    remote_port(ctx) == 53)
		return answer(ctx, 2);

	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
