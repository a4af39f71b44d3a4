SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	u64 local_port = FIELD(local_port);
	u64 remote_port = HOST(remote_port);

	if ((local_port >= 8000 ||
	    remote_port >= 8000) &&
	    (local_port <= 8999 ||
	    remote_port <= 8999))
		return answer(ctx, 0); // range (rules.toml:3)
	if ((local_port == 80 ||
	    remote_port == 80) &&
	    (local_port == 443 ||
	    remote_port == 443))
		return answer(ctx, 1); // contradiction (rules.toml:8)
	if (local_port != 80 &&
	    remote_port != 80 &&
	    (local_port >= 7000 ||
	    remote_port >= 7000) &&
	    (local_port == 7100 ||
	    local_port == 7200 ||
	    remote_port == 7100 ||
	    remote_port == 7200))
		return answer(ctx, 2); // implied (rules.toml:14)
	if (within(remote_port, 9000, 9100))
		return answer(ctx, 3); // one-end (rules.toml:19)
	if (!is_ipv4(ctx) &&
	    (is_incoming(ctx) ||
	    ((local_port >= 10001 ||
	    remote_port >= 10001) &&
	    (local_port <= 10099 ||
	    remote_port <= 10099))))
		return answer(ctx, 4); // within-or (rules.toml:24)
	if ((within(local_port, 10000, 10010) ||
	    within(remote_port, 10000, 10010)) &&
	    (local_port <= 10004 ||
	    remote_port <= 10004))
		return answer(ctx, 5); // two-keys (rules.toml:29)
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
