SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	struct device found = {}, *device = &found;

	ctx = over_calls(ctx);

	u64 lists = 0;

	if (find_device(ctx, device))
		lists = names_0(device->name);
	if ((FIELD(local_port) == 12345 ||
	    remote_port_is(12345)) &&
	    (lists & 0x1))
		return answer(ctx, 0); // radio (rules.toml:1)
	if ((lists & 0x2))
		return answer(ctx, 1); // odd-globs (rules.toml:7)
	if (device->found > 0)
		return answer(ctx, 2); // any-device (rules.toml:12)
	return answer(ctx, 3); // all (rules.toml:17)
}

// Runs once, in a cgroup of its own, on a connection to 127.0.0.1 from a socket that is bound to `lo`. It checks that
// the device of the route, the first device and the bound device are the same; the loader then reads its name. It also
// checks that the program finds a second device, which the loader stores under an unused index. Otherwise the offsets
// are not this kernel's. At the other end it checks the device of the packet that ends the handshake, if the program
// reads that packet.
SEC("sockops")
int probe_device(struct bpf_sock_ops *ctx)
{
	struct device first = {}, other = {};
	struct local_device *expected;
	void *sk, *net, *dst, *dev, *route = 0;
	struct bpf_sock *socket;
	struct device_name *known;
	u32 bound = 0;

#if defined(ARRIVALS) && (COLUMNS || defined(OBSERVED))
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT && FIELD(op) != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
#else
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;
#endif
	ctx = over_calls(ctx);
	sk = POINTER(ctx, ops_sk);
#if defined(ARRIVALS) && (COLUMNS || defined(OBSERVED))
	if (FIELD(op) == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		net = namespace_of(sk);
		dev = net ? device_by_index(net, packet_index(ctx)) : 0;
		if (!dev || !read_name(&first, dev))
			return 1;
		goto found;
	}
#endif
	READ(bound, sk, sk_bound_dev_if);
	dst = POINTER(sk, sk_dst_cache);
	if (dst)
		route = POINTER(dst, dst_dev);
	net = namespace_of(sk);
	if (!net || !route || bound != 1)
		return 1;
	dev = device_by_index(net, bound);
	if (dev != route || !read_name(&first, dev))
		return 1;
	expected = device_of_index(0);
	if (expected) {
		dev = device_by_index(net, expected->index);
		if (dev)
			read_name(&other, dev);
		if (other.words[0] != expected->name.words[0] || other.words[1] != expected->name.words[1])
			return 1;
	}
#if defined(ARRIVALS) && (COLUMNS || defined(OBSERVED))
found:
#endif
	socket = SOCKET(ctx);
	known = socket ? sk_storage_get(&known_devices, socket, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (known)
		*known = first.whole;
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
