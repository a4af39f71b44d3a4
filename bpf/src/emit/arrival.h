// ---- The device that a SYN came in by ----
//
// A request socket has no route. It has a device only if the listener is bound to one or if the address is link-local.
// But the kernel looks up the listener just before, on the same processor, and runs sk_lookup programs at that point.

// For each processor, the last packet that belongs to no connection yet. Usually that is a SYN.
struct arrival {
	u32 remote[4]; // IPv4 is in the last word
	u32 local[4];
	u32 remote_port; // host byte order, like the local port
	u32 local_port;
	u32 index;
};

struct {
	int (*type)[6]; // BPF_MAP_TYPE_PERCPU_ARRAY
	int (*max_entries)[1];
	u32 *key;
	struct arrival *value;
} arrivals SEC(".maps");

// include/uapi/linux/bpf.h
struct bpf_sk_lookup {
	u64 cookie;
	u32 family;
	u32 protocol;
	u32 remote_ip4; // network byte order, like all addresses
	u32 remote_ip6[4];
	u16 remote_port; // network byte order
	u16 not_used;
	u32 local_ip4;
	u32 local_ip6[4];
	u32 local_port; // host byte order
	u32 ingress_ifindex; // since Linux 5.17
};

enum { IPPROTO_TCP = 6, SK_PASS = 1 };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(x) __builtin_bswap16(x)
#else
#define NET16(x) (x)
#endif

// A field of that context. It is read in assembly for the same reasons as FIELD.
#define LOOKUP(size, name)                                                          \
	({                                                                          \
		u64 field;                                                          \
		asm volatile("%0 = *(" size " *)(%1 + %2)"                          \
			     : "=&r"(field)                                         \
			     : "r"(ctx), "i"(__builtin_offsetof(struct bpf_sk_lookup, name))); \
		field;                                                              \
	})

// The program never selects or drops a socket, so the verdicts of other programs stand.
SEC("sk_lookup")
int note_arrival(struct bpf_sk_lookup *ctx)
{
	struct arrival *arrival;
	u32 key = 0;

	if (LOOKUP("u32", protocol) != IPPROTO_TCP)
		return SK_PASS;
	arrival = map_lookup(&arrivals, &key);
	if (!arrival)
		return SK_PASS;
	if (LOOKUP("u32", family) == AF_INET) {
		arrival->remote[3] = LOOKUP("u32", remote_ip4);
		arrival->local[3] = LOOKUP("u32", local_ip4);
	} else {
		arrival->remote[0] = LOOKUP("u32", remote_ip6[0]);
		arrival->remote[1] = LOOKUP("u32", remote_ip6[1]);
		arrival->remote[2] = LOOKUP("u32", remote_ip6[2]);
		arrival->remote[3] = LOOKUP("u32", remote_ip6[3]);
		arrival->local[0] = LOOKUP("u32", local_ip6[0]);
		arrival->local[1] = LOOKUP("u32", local_ip6[1]);
		arrival->local[2] = LOOKUP("u32", local_ip6[2]);
		arrival->local[3] = LOOKUP("u32", local_ip6[3]);
	}
	arrival->remote_port = NET16(LOOKUP("u16", remote_port));
	arrival->local_port = LOOKUP("u32", local_port);
	arrival->index = LOOKUP("u32", ingress_ifindex);
	return SK_PASS;
}

// The ifindex of the device on which this connection's SYN arrived, or 0 if it is unknown. The record may be of
// another packet if the listener was found without a lookup or on another processor.
static __always_inline u32 arrival_index(struct bpf_sock_ops *ctx)
{
	struct arrival *arrival;
	u32 key = 0;

	if (!finding.arrivals)
		return 0;
	arrival = map_lookup(&arrivals, &key);
	if (!arrival || arrival->remote_port != HOST(remote_port) || arrival->local_port != FIELD(local_port))
		return 0;
	if (is_ipv4(ctx))
		return arrival->remote[3] == FIELD(remote_ip4) && arrival->local[3] == FIELD(local_ip4) ?
			       arrival->index : 0;
	return arrival->remote[0] == FIELD(remote_ip6[0]) && arrival->remote[1] == FIELD(remote_ip6[1]) &&
		       arrival->remote[2] == FIELD(remote_ip6[2]) && arrival->remote[3] == FIELD(remote_ip6[3]) &&
		       arrival->local[0] == FIELD(local_ip6[0]) && arrival->local[1] == FIELD(local_ip6[1]) &&
		       arrival->local[2] == FIELD(local_ip6[2]) && arrival->local[3] == FIELD(local_ip6[3]) ?
		       arrival->index : 0;
}

enum { LOOPBACK_IFINDEX = 1 };

// The ifindex of the device on which an incoming connection's SYN arrived, or 0 if it is unknown. Packets that the
// host sends to itself arrive on lo. For the SYN of such a connection the kernel reports the device that has the
// address, and lo for later packets (orig_oif in ip_route_output_key_hash_rcu(), net/ipv4/route.c).
static __always_inline u32 incoming_index(struct bpf_sock_ops *ctx)
{
	return DEVICE_OF(remote) ? LOOPBACK_IFINDEX : arrival_index(ctx);
}
