// ---- The device of the socket's route, by name ----

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static void *(*sk_storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;

// A member of a kernel structure, by its name in `struct offsets`.
#define AT(base, member) ((const void *)(base) + finding.at.member)
#define READ(to, base, member) probe_read_kernel(&(to), sizeof(to), AT(base, member))

// The same for a pointer, which has 4 bytes on 32-bit machines.
static __always_inline void *read_pointer(const void *from)
{
	u32 size = finding.pointer;
	u64 to = 0;

	probe_read_kernel(&to, size, from);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	// Four bytes are read into the upper half. (To read into the lower half, clang would subtract from a pointer to
	// the stack, which the verifier rejects.)
	to >>= 64 - 8 * size;
#endif
	return (void *)to;
}
#define POINTER(base, member) read_pointer(AT(base, member))

// The device of a socket that sends a SYN, as found at the first callback. By a later callback the route may have gone
// (dst_negative_advice(), include/net/sock.h, after a retransmission of the SYN) or changed (the rule set a mark).
struct {
	int (*type)[24]; // BPF_MAP_TYPE_SK_STORAGE
	int (*map_flags)[1]; // BPF_F_NO_PREALLOC
	int *key;
	struct device_name *value;
} known_devices SEC(".maps");

enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };

// The device with this ifindex, 0 for none. As dev_get_by_index() in net/core/dev.c: a hash of 256 chains.
static __always_inline void *device_by_index(void *net, u32 index)
{
	void *head = POINTER(net, net_dev_index_head) + (index & 255) * finding.pointer;
	void *node = read_pointer(head);

	for (int i = 0; i < 32 && node; i++) {
		void *dev = node - finding.at.dev_index_hlist;
		u32 ifindex = 0;

		READ(ifindex, dev, dev_ifindex);
		if (ifindex == index)
			return dev;
		node = POINTER(node, node_next);
	}
	return 0;
}

static __always_inline int read_name(struct device *device, const void *dev)
{
	return probe_read_kernel_str(device->name, sizeof(device->name), AT(dev, dev_name)) > 0;
}

// The socket's network namespace, 0 if the interface names do not belong to it.
static __always_inline void *namespace_of(const void *sk)
{
	void *net = POINTER(sk, sk_net);
	u32 netns = 0;

	READ(netns, net, net_inum);
	return netns == bpf_metadata_policy.netns ? net : 0;
}

// The ifindex of the device that the current packet came in by.
static __always_inline u32 packet_index(struct bpf_sock_ops *ctx)
{
	u32 index = 0;

	READ(index, POINTER(ctx, ops_skb), skb_iif);
	return index;
}

static __always_inline int find_by_route(struct bpf_sock_ops *ctx, struct device *device)
{
	struct device_name *known = 0;
	void *sk = POINTER(ctx, ops_sk), *net = namespace_of(sk), *dev = 0;
	u32 index = 0;

	if (!net)
		return 0;
	if (is_incoming(ctx)) {
#ifdef ARRIVALS
		index = incoming_index(ctx);
#if COLUMNS || defined(OBSERVED)
		// The child of a request socket: the packet that created it is available.
		if (!index && finding.arrivals && FIELD(op) == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
			index = packet_index(ctx);
#endif
#endif
	} else {
		struct bpf_sock *socket = SOCKET(ctx);
		void *dst;

		if (socket)
			known = sk_storage_get(&known_devices, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
		// A socket can connect once more, elsewhere.
		if (known && known->words[0] && (FIELD(op) != FIRST_CALLBACK || FIELD(total_retrans))) {
			device->whole = *known;
			return 1;
		}
		dst = POINTER(sk, sk_dst_cache);
		if (dst)
			dev = POINTER(dst, dst_dev);
	}
	if (!dev) {
		struct local_device *found;

		// Fallback: the device that the listener is bound to or that the link-local address belongs to,
		// otherwise the device that has the local address.
		if (!index)
			READ(index, sk, sk_bound_dev_if);
		found = index ? device_meant(ctx, index) : device_of_address(ctx);
		// A device that appeared after the install is still found by its index.
		if (found)
			index = found->index;
		if (!index)
			return 0;
		dev = device_by_index(net, index);
		if (!dev)
			return 0;
	}
	if (!read_name(device, dev))
		return 0;
	if (known)
		*known = device->whole;
	return 1;
}
