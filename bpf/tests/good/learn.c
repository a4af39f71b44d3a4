static __always_inline u64 rule_of(struct bpf_sock_ops *ctx, struct device *device)
{

	if (!(find_device(ctx, device)))
		device->words[0] = 0;
	if ((starts_with(device, "ax") ||
	     starts_with(device, "tnc")))
		return 0; // radio (rules.toml:6)
	if ((FIELD(remote_ip4) & PREFIX(8)) == IPV4(44, 0, 0, 0) &&
	    is_ipv4(ctx))
		return 1; // link (rules.toml:12)
	return 2; // rest (rules.toml:18)
}

enum {
	TCP_SYNCNT = 7,
	TCP_KEEPIDLE = 4,
};

// What each rule sets besides the timer: the callbacks at which it is counted, a bit for each of its
// columns, and the values.

const u8 settings_of[3] SEC(".rodata.tables") = {
0,1,2,
};

const u64 settings_has[4] SEC(".rodata.tables") = {
0x1,0x2,0x0,
};

const u8 settings_value_0[4] SEC(".rodata.tables") = {
2,0,0,
};

const u8 settings_value_1[4] SEC(".rodata.tables") = {
0,60,0,
};

static __always_inline int set_number(struct bpf_sock_ops *ctx, u64 rule)
{
	u64 op = FIELD(op), its, columns;

	asm volatile("" : "+r"(rule)); // as in answer_number()
	if (rule >= RULES)
		return 1;
	its = settings_of[rule];
	BOUND(its, 0x3);
	columns = settings_has[its];
	switch (op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (columns >> 0 & 1)
			set(ctx, rule, 0, SOL_TCP, TCP_SYNCNT, settings_value_0[its]);
		// and what both ends have
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (columns >> 1 & 1)
			set_keepalive(ctx, rule, 1, SOL_TCP, TCP_KEEPIDLE, settings_value_1[its]);
		break;
	}
	return 1;
}

SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 op = callback();

	if (op > BPF_SOCK_OPS_RTO_CB || one_by_one(op) == 7 || one_by_one(op) == 6 || one_by_one(op) == 2)
		return 1;

	struct device found = {}, *device = &found;
	u64 rule;

	ctx = over_calls(ctx);
	rule = opaque(ctx, rule_of(ctx, device));
	if (rule >= RULES)
		return 1;
	set_number(ctx, rule);
	return observe(ctx, rule);
}

// Run once, in a cgroup of its own, to learn which settings this kernel supports. The answers are in
// the failures of the first rule: 0 for not tried, 1 for supported, 1 + errno for refused.
SEC("sockops")
int probe(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	try(ctx, 0, SOL_TCP, TCP_SYNCNT, 2);
	try(ctx, 1, SOL_TCP, TCP_KEEPIDLE, 60);
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
