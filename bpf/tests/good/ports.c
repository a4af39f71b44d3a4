SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	if (is_incoming(ctx)) {
		if (FIELD(local_port) == 22 ||
		    within(FIELD(local_port), 8000, 8999))
			return answer(ctx, 0); // listen (rules.toml:1)
		if (remote_port_is(53))
			return answer(ctx, 2); // answers (rules.toml:12)
		return 1;
	}
	if (FIELD(local_port) == 22 ||
	    within(FIELD(local_port), 8000, 8999))
		return answer(ctx, 0); // listen (rules.toml:1)
	if (FIELD(local_port) == 0 ||
	    within(FIELD(local_port), 1024, 7999) ||
	    within(FIELD(local_port), 9000, 65534)) {
		if (remote_port_is(0) ||
		    within(HOST(remote_port), 1024, 65534))
			return 1;
		return answer(ctx, 1); // any-end (rules.toml:6)
	}
	return answer(ctx, 1); // any-end (rules.toml:6)
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
