// ---- The device that the SYN leaves by or came in by ----

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
struct bpf_sock_ops_kern {
	struct sock *sk;
} BTF_OF_KERNEL;

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;

// A field of a kernel structure, at the offset that it has in the running kernel (CO-RE).
#define READ(to, from) \
	probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)))

// Local addresses and the ifindex of the device that has them, as `set-rto install` found them.
struct {
	int (*type)[1]; // BPF_MAP_TYPE_HASH
	int (*max_entries)[65536];
	int (*map_flags)[1]; // BPF_F_NO_PREALLOC
	u32 (*key)[4];
	u32 *value;
} local_devices SEC(".maps");

// The context in a register that outlives calls of helpers. In assembly, since clang would copy it as soon as the
// program starts, at the cost of an instruction for callbacks that no rule needs.
static __always_inline struct bpf_sock_ops *over_calls(struct bpf_sock_ops *ctx)
{
	struct bpf_sock_ops *kept;

	asm volatile("%0 = %1" : "=r"(kept) : "r"(ctx));
	return kept;
}

struct device {
	union {
		char name[16]; // NUL-padded
		u64 words[2];
	};
	int found; // 0: not looked for yet, 1: yes, -1: there is none
#if AUTOMATA
	u64 lists; // of patterns that the name matches, a bit for each
#endif
};

// dev_get_by_index(), net/core/dev.c: a hash of 256 chains.
static __always_inline struct net_device *device_by_index(struct net *net, u32 index)
{
	struct hlist_head *heads;
	struct hlist_node *node;

	READ(heads, net->dev_index_head);
	READ(node, heads[index & 255].first);
	for (int i = 0; i < 32 && node; i++) {
		struct net_device *dev =
			(void *)node - __builtin_preserve_field_info(
					       ((struct net_device *)0)->index_hlist, 0);
		u32 ifindex = 0;

		READ(ifindex, dev->ifindex);
		if (ifindex == index)
			return dev;
		READ(node, node->next);
	}
	return 0;
}

static __always_inline int find_device(struct bpf_sock_ops *ctx, struct device *device)
{
	struct net_device *dev = 0;
	struct dst_entry *dst = 0;
	struct sock *sk = 0;
	struct net *net = 0;
	u32 netns = 0, index = 0;

	if (device->found)
		return device->found > 0;
	device->found = -1;
	READ(sk, ((struct bpf_sock_ops_kern *)ctx)->sk);
	READ(net, sk->__sk_common.skc_net.net);
	READ(netns, net->ns.inum);
	if (netns != bpf_metadata_policy.netns)
		return 0;
	if (!is_incoming(ctx)) {
		READ(dst, sk->sk_dst_cache);
		if (dst)
			READ(dev, dst->dev);
	}
	if (!dev) {
		// A request socket has no route, and its child, which has one, must be decided as it was. They
		// have the device if the listener is bound to one or the address is link-local; else the device
		// that has the local address stands for it.
		READ(index, sk->__sk_common.skc_bound_dev_if);
		if (!index) {
			u32 address[4] = {};
			u32 *found;

			// Not the ip6 fields as they are: without CONFIG_IPV6 they are zero.
			address[3] = FIELD(local_ip4);
			address[2] = NET32(0xffff);
			if (!is_ipv4(ctx)) {
				address[0] = FIELD(local_ip6[0]);
				address[1] = FIELD(local_ip6[1]);
				address[2] = FIELD(local_ip6[2]);
				address[3] = FIELD(local_ip6[3]);
			}
			found = map_lookup(&local_devices, address);

			if (!found)
				return 0;
			index = *found;
		}
		dev = device_by_index(net, index);
		if (!dev)
			return 0;
	}
	if (probe_read_kernel_str(device->name, sizeof(device->name),
				  __builtin_preserve_access_index(&dev->name)) < 0)
		return 0;
#if AUTOMATA
	device->lists = lists_of(device->name);
#endif
	device->found = 1;
	return 1;
}
