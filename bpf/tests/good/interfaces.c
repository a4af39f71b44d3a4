SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	struct device device = {};

	if (ctx->op != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	// radio (rules.toml:1): interface in {"ax0", "tnc*", "a-name-of-15-by"} and port == 12345 -> rto 20s
	if ((ctx->local_port == 12345 ||
	     remote_port(ctx) == 12345) &&
	    find_device(ctx, &device) &&
	    (named(&device, "ax0") ||
	     starts_with(&device, "tnc") ||
	     named(&device, "a-name-of-15-by")))
		return answer(ctx, 0);

	// odd-globs (rules.toml:7): interface in {"w?an*", "*0"} -> rto 2s
	if (find_device(ctx, &device) &&
	    (glob(&device, "w?an*") ||
	     glob(&device, "*0")))
		return answer(ctx, 1);

	// any-device (rules.toml:12): interface == "*" -> rto 3s
	if (find_device(ctx, &device))
		return answer(ctx, 2);

	// all (rules.toml:17): true -> rto 4s
	return answer(ctx, 3);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
