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
