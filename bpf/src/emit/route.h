// ---- The device of the socket's route, by name ----

#define BTF_OF_KERNEL __attribute__((preserve_access_index))
struct net_device;
struct hlist_node {
	struct hlist_node *next;
} BTF_OF_KERNEL;
struct hlist_head {
	struct hlist_node *first;
} BTF_OF_KERNEL;
struct ns_common {
	u32 inum;
} BTF_OF_KERNEL;
struct net {
	struct ns_common ns;
	struct hlist_head *dev_index_head;
} BTF_OF_KERNEL;
struct net_device {
	char name[16];
	int ifindex;
	struct hlist_node index_hlist;
} BTF_OF_KERNEL;
struct dst_entry {
	struct net_device *dev;
} BTF_OF_KERNEL;
typedef struct {
	struct net *net;
} BTF_OF_KERNEL possible_net_t;
struct sock_common {
	possible_net_t skc_net;
	int skc_bound_dev_if;
} BTF_OF_KERNEL;
struct sock {
	struct sock_common __sk_common;
	struct dst_entry *sk_dst_cache;
} BTF_OF_KERNEL;
struct sk_buff {
	int skb_iif;
} BTF_OF_KERNEL;
struct bpf_sock_ops_kern {
	struct sock *sk;
	struct sk_buff *skb;
} BTF_OF_KERNEL;

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static void *(*sk_storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;

// A field of a kernel structure, at the offset that it has in the running kernel (CO-RE).
#define READ(to, from) \
	probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)))

// A pointer, as long as the running kernel has it: 4 bytes on 32-bit machines. Here it has 8.
#define SIZE(field) __builtin_preserve_field_info(field, 1)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SHORT(to, size) (to)
#else
// It has been read into the upper bytes. (To read into the lower ones, clang would subtract from a pointer to the stack,
// which the verifier refuses.)
#define SHORT(to, size) ((void *)((u64)(to) >> (64 - 8 * (size))))
#endif
#define READ_POINTER(to, from)                                              \
	({                                                                  \
		const void *at = __builtin_preserve_access_index(&(from)); \
                                                                            \
		(to) = 0;                                                   \
		probe_read_kernel(&(to), SIZE(from), at);                   \
		(to) = SHORT(to, SIZE(from));                               \
	})

// The device of a socket that sends a SYN, as found at the first callback. The kernel asks again, and by then the
// route may have gone (a SYN has been repeated, dst_negative_advice(), include/net/sock.h) or lead elsewhere (the
// rule set a mark).
struct {
	int (*type)[24]; // BPF_MAP_TYPE_SK_STORAGE
	int (*map_flags)[1]; // BPF_F_NO_PREALLOC
	int *key;
	struct device_name *value;
} known_devices SEC(".maps");

enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };

// dev_get_by_index(), net/core/dev.c: a hash of 256 chains.
static __always_inline struct net_device *device_by_index(struct net *net, u32 index)
{
	struct hlist_head *heads;
	struct hlist_node *node;

	READ_POINTER(heads, net->dev_index_head);
	// An array of pointers, as long as the running kernel's.
	heads = (void *)heads + (index & 255) * SIZE(((struct hlist_head *)0)->first);
	READ_POINTER(node, heads->first);
	for (int i = 0; i < 32 && node; i++) {
		struct net_device *dev =
			(void *)node - __builtin_preserve_field_info(
					       ((struct net_device *)0)->index_hlist, 0);
		u32 ifindex = 0;

		READ(ifindex, dev->ifindex);
		if (ifindex == index)
			return dev;
		READ_POINTER(node, node->next);
	}
	return 0;
}

static __always_inline int read_name(struct device *device, struct net_device *dev)
{
	return probe_read_kernel_str(device->name, sizeof(device->name),
				     __builtin_preserve_access_index(&dev->name)) > 0;
}

static __always_inline struct net *namespace_of(struct sock *sk)
{
	struct net *net;
	u32 netns = 0;

	READ_POINTER(net, sk->__sk_common.skc_net.net);
	READ(netns, net->ns.inum);
	return netns == bpf_metadata_policy.netns ? net : 0;
}

// The ifindex of the device that the packet came in by at which the kernel calls.
static __always_inline u32 packet_index(struct bpf_sock_ops *ctx)
{
	struct sk_buff *skb;
	u32 index = 0;

	READ_POINTER(skb, ((struct bpf_sock_ops_kern *)ctx)->skb);
	READ(index, skb->skb_iif);
	return index;
}

static __always_inline int find_by_route(struct bpf_sock_ops *ctx, struct device *device)
{
	struct device_name *known = 0;
	struct net_device *dev = 0;
	struct sock *sk;
	struct net *net;
	u32 index = 0;

	READ_POINTER(sk, ((struct bpf_sock_ops_kern *)ctx)->sk);
	net = namespace_of(sk);
	if (!net)
		return 0;
	if (is_incoming(ctx)) {
#ifdef ARRIVALS
		index = arrival_index(ctx);
#if COLUMNS
		// The child of a request socket: the packet is there that made it.
		if (!index && finding.arrivals && FIELD(op) == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
			index = packet_index(ctx);
#endif
#endif
	} else {
		struct bpf_sock *socket = SOCKET(ctx);
		struct dst_entry *dst;

		if (socket)
			known = sk_storage_get(&known_devices, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
		// A socket can connect once more, elsewhere.
		if (known && known->words[0] && (FIELD(op) != FIRST_CALLBACK || FIELD(total_retrans))) {
			device->whole = *known;
			return 1;
		}
		READ_POINTER(dst, sk->sk_dst_cache);
		if (dst)
			READ_POINTER(dev, dst->dev);
	}
	if (!dev) {
		struct local_device *found;

		// For what is not known otherwise: the device that the listener is bound to or that the link-local
		// address belongs to; else the device that has the local address stands for it.
		if (!index)
			READ(index, sk->__sk_common.skc_bound_dev_if);
		found = index ? device_meant(ctx, index) : device_of_address(ctx);
		// What came after the install is found by its index all the same.
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
