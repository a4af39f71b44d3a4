// local (rules.toml:3): use "kernel"
static __always_inline int set_0(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 0);
		break;
	}
	return 1;
}

// radio (rules.toml:8): rto 20s, connect_timeout 180s
static __always_inline int set_1(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 1);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			set(ctx, 1, 0, SOL_TCP, TCP_USER_TIMEOUT, 180000);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			break;
		// and what the end of the handshake sets anew
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (FIELD(op) == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
			set(ctx, 1, 0, SOL_TCP, TCP_USER_TIMEOUT, 0);
		break;
	}
	return 1;
}

SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 op = callback();

	if (op > BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || one_by_one(op) == 2)
		return 1;

	struct device found = {}, *device = &found;

	ctx = over_calls(ctx);

	if (((FIELD(remote_ip4) & PREFIX(8)) == IPV4(10, 0, 0, 0) ||
	    (FIELD(remote_ip4) & PREFIX(16)) == IPV4(192, 168, 0, 0)) &&
	    is_ipv4(ctx))
		return set_0(ctx); // local (rules.toml:3)
	if (!(find_device(ctx, device)))
		device->words[0] = 0;
	if (starts_with(device, "ax"))
		return set_1(ctx); // radio (rules.toml:8)
	return 1;
}

// Run once, in a cgroup of its own, to learn which settings this kernel supports. The answers are in
// the failures of the first rule: 0 for not tried, 1 for supported, 1 + errno for refused.
SEC("sockops")
int probe(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	try(ctx, 0, SOL_TCP, TCP_USER_TIMEOUT, 180000);
	return 1;
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
