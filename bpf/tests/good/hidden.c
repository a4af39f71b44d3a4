SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	struct device found = {}, *device = &found;

	ctx = over_calls(ctx);
	u64 local_port = FIELD(local_port);
	u64 remote_ip4 = FIELD(remote_ip4);

	if ((remote_ip4 & PREFIX(16)) == IPV4(10, 1, 0, 0) &&
	    is_ipv4(ctx))
		return answer(ctx, 0); // site (rules.toml:1)
	if (!((local_port == 8080 ||
	    local_port == 85 ||
	    local_port == 443 ||
	    local_port == 22 ||
	    remote_port_is(22) ||
	    remote_port_is(443) ||
	    within(local_port, 80, 89)) &&
	    find_device(ctx, device)))
		device->words[0] = 0;
	if ((local_port == 8080 ||
	    within(local_port, 80, 89)) &&
	    named(device, "eth0"))
		return answer(ctx, 1); // web (rules.toml:6)
	if (((remote_ip4 & PREFIX(24)) == IPV4(10, 1, 2, 0) ||
	    (remote_ip4 & PREFIX(16)) == IPV4(10, 2, 0, 0)) &&
	    is_ipv4(ctx))
		return answer(ctx, 2); // sites (rules.toml:12)
	if ((local_port == 85 ||
	    local_port == 443) &&
	    (named(device, "eth0") ||
	     named(device, "eth1")))
		return answer(ctx, 3); // ports (rules.toml:17)
	if ((local_port == 22 ||
	    local_port == 443 ||
	    remote_port_is(22) ||
	    remote_port_is(443)) &&
	    named(device, "eth1"))
		return answer(ctx, 4); // either (rules.toml:23)
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
