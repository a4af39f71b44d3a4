SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	if (FIELD(local_port) == 12345 ||
	    remote_port_is(12345))
		return answer(ctx, 0); // slow (rules.toml:5)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
