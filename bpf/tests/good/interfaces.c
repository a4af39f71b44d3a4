SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 next;
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	struct device found = {}, *device = &found;

	ctx = over_calls(ctx);

	if (FIELD(local_port) == 12345 ||
	    remote_port_is(12345))
		goto n6;
	goto n4;

n4:
	next = 4;
	goto device;

n6:
	next = 6;
	goto device;

device:
	find_device(ctx, device);
	switch (next) {
	case 4:
		goto d4;
	default:
		goto d6;
	}

d4:
	if (in_list(device, 1 /* w?an*, *0 */))
		return answer(ctx, 1); // odd-globs (rules.toml:7)
	if (device->found > 0)
		return answer(ctx, 2); // any-device (rules.toml:12)
	return answer(ctx, 3); // all (rules.toml:17)

d6:
	if (in_list(device, 0 /* ax0, tnc*, a-name-of-15-by */))
		return answer(ctx, 0); // radio (rules.toml:1)
	goto d4;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
