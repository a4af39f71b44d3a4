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

// Run once, in a cgroup of its own, on a connection to 127.0.0.1: whether the route's device and the first one
// are the same, `lo`, which the loader reads. If not, the BTF is not this kernel's.
SEC("sockops")
int probe_device(struct bpf_sock_ops *ctx)
{
	struct device route = {}, first = {};
	struct bpf_sock *socket;
	struct device_name *known;
	struct net_device *dev;
	struct sock *sk;
	struct net *net;

	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;
	ctx = over_calls(ctx);
	find_by_route(ctx, &route);
	READ_POINTER(sk, ((struct bpf_sock_ops_kern *)ctx)->sk);
	net = namespace_of(sk);
	dev = net ? device_by_index(net, 1) : 0;
	if (dev)
		read_name(&first, dev);
	socket = SOCKET(ctx);
	known = socket ? sk_storage_get(&known_devices, socket, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (known && (first.words[0] != route.words[0] || first.words[1] != route.words[1]))
		known->words[0] = 0;
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
