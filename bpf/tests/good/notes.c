// hangs (rules.toml:3): rto 20s
static __always_inline int set_0(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 0);
		break;
	}
	return 1;
}

// hurries (rules.toml:8): rto 10ms
static __always_inline int set_1(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 1);
		break;
	}
	return 1;
}

// short (rules.toml:13): rto 5s, syn_retries 1
static __always_inline int set_2(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 2);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		set(ctx, 2, 0, SOL_TCP, TCP_SYNCNT, 1);
		break;
	}
	return 1;
}

// cut (rules.toml:19): rto 20s, rto_max 10s, user_timeout 30s
static __always_inline int set_3(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 3);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		set(ctx, 3, 4, SOL_TCP, TCP_RTO_MAX_MS, 10000);
		set(ctx, 3, 5, SOL_TCP, TCP_USER_TIMEOUT, 30000);
		break;
	}
	return 1;
}

// least (rules.toml:26): rto_min 5ms, delack_max 19.999ms
static __always_inline int set_4(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(4);
		set(ctx, 4, 2, SOL_TCP, TCP_BPF_RTO_MIN, least(5000));
		set(ctx, 4, 3, SOL_TCP, TCP_BPF_DELACK_MAX, least(19999));
		break;
	}
	return 1;
}

// answers (rules.toml:34): rto 20s
static __always_inline int set_5(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 5);
		break;
	}
	return 1;
}

// ends (rules.toml:40): rto 20s, user_timeout 60s
static __always_inline int set_6(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 6);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		set(ctx, 6, 5, SOL_TCP, TCP_USER_TIMEOUT, 60000);
		break;
	}
	return 1;
}

// usual (rules.toml:46): rto 20s, syn_retries 2
static __always_inline int set_7(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 7);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		set(ctx, 7, 0, SOL_TCP, TCP_SYNCNT, 2);
		break;
	}
	return 1;
}

// coarse (rules.toml:52): rto_min 20ms
static __always_inline int set_8(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(8);
		set(ctx, 8, 2, SOL_TCP, TCP_BPF_RTO_MIN, least(20000));
		break;
	}
	return 1;
}

// marked-by-device (rules.toml:57): initial_rwnd 10, mark 7
static __always_inline int set_9(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_RWND_INIT:
		reply(ctx, 1, 10);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(9);
		set(ctx, 9, 6, SOL_SOCKET, SO_MARK, 7);
		break;
	}
	return 1;
}

SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 op = callback();

	if (op > BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || one_by_one(op) == 4)
		return 1;

	struct device found = {}, *device = &found;

	ctx = over_calls(ctx);
	u64 remote_port = HOST(remote_port);

	if (remote_port == 1)
		return set_0(ctx); // hangs (rules.toml:3)
	if (remote_port == 2)
		return set_1(ctx); // hurries (rules.toml:8)
	if (remote_port == 3)
		return set_2(ctx); // short (rules.toml:13)
	if (remote_port == 4)
		return set_3(ctx); // cut (rules.toml:19)
	if (remote_port == 5)
		return set_4(ctx); // least (rules.toml:26)
	if (remote_port == 6 &&
	    is_incoming(ctx))
		return set_5(ctx); // answers (rules.toml:34)
	if (remote_port == 7)
		return set_6(ctx); // ends (rules.toml:40)
	if (remote_port == 8)
		return set_7(ctx); // usual (rules.toml:46)
	if (remote_port == 9)
		return set_8(ctx); // coarse (rules.toml:52)
	if (!(remote_port == 4242 &&
	    !is_incoming(ctx) &&
	    find_device(ctx, device)))
		device->words[0] = 0;
	if (remote_port == 4242 &&
	    !is_incoming(ctx) &&
	    named(device, "ax0"))
		return set_9(ctx); // marked-by-device (rules.toml:57)
	return 1;
}

// Run once, in a cgroup of its own, to learn which settings this kernel supports. The answers are in
// the failures of the first rule: 0 for not tried, 1 for supported, 1 + errno for refused.
SEC("sockops")
int probe(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	try(ctx, 0, SOL_TCP, TCP_SYNCNT, 1);
	try(ctx, 2, SOL_TCP, TCP_BPF_RTO_MIN, least(5000));
	try(ctx, 3, SOL_TCP, TCP_BPF_DELACK_MAX, least(19999));
	try(ctx, 4, SOL_TCP, TCP_RTO_MAX_MS, 10000);
	try(ctx, 5, SOL_TCP, TCP_USER_TIMEOUT, 30000);
	try(ctx, 6, SOL_SOCKET, SO_MARK, 7);
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
