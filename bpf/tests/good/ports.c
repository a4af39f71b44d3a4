SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 local_port = FIELD(local_port);
	u64 remote_port = HOST(remote_port);

	if (local_port == 22 ||
	    within(local_port, 8000, 8999))
		return answer(ctx, 0); // listen (rules.toml:1)
	if ((local_port == 65535 ||
	    remote_port == 65535 ||
	    within(local_port, 1, 1023) ||
	    within(remote_port, 1, 1023)) &&
	    !is_incoming(ctx))
		return answer(ctx, 1); // any-end (rules.toml:6)
	if (remote_port == 53 &&
	    is_incoming(ctx))
		return answer(ctx, 2); // answers (rules.toml:12)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
