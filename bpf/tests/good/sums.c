SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 local_port = FIELD(local_port);
	u64 remote_port = HOST(remote_port);

	if (remote_port == 4000 &&
	    (s64)(local_port & 0x1) == 0)
		return answer(ctx, 0); // even (rules.toml:3)
	if ((s64)local_port - (s64)remote_port == -1000)
		return answer(ctx, 1); // distance (rules.toml:8)
	if (!((s64)local_port - (s64)remote_port == -1000) &&
	    ((s64)(remote_port & 0xff00) == 4608 ||
	    (s64)(local_port & 0xff00) == 4608))
		return answer(ctx, 2); // same-distance (rules.toml:13)
	if (within(local_port, 8000, 8999))
		return answer(ctx, 3); // range (rules.toml:18)
	if ((s64)(local_port & 0xff) == 7)
		return answer(ctx, 4); // low-bytes (rules.toml:23)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
