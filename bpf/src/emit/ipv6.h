// ---- IPv6 addresses as numbers ----

struct ip6 {
	u64 high, low;
};

// Words i and i + 1 of an address of the context.
#define HALF(address, i) (HOST(address[i]) << 32 | HOST(address[i + 1]))

static __always_inline struct ip6 local_ip6(struct bpf_sock_ops *ctx)
{
	struct ip6 address = { HALF(local_ip6, 0), HALF(local_ip6, 2) };

	return address;
}

static __always_inline struct ip6 remote_ip6(struct bpf_sock_ops *ctx)
{
	struct ip6 address = { HALF(remote_ip6, 0), HALF(remote_ip6, 2) };

	return address;
}

static __always_inline int below(struct ip6 address, u64 high, u64 low)
{
	return address.high < high || (address.high == high && address.low < low);
}
