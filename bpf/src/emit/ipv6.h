// ---- IPv6 addresses as numbers ----

struct ip6 {
	u64 high, low;
};

static __always_inline struct ip6 local_ip6(struct bpf_sock_ops *ctx)
{
	struct ip6 address = { HOST(local_ip6[0]) << 32 | HOST(local_ip6[1]),
			       HOST(local_ip6[2]) << 32 | HOST(local_ip6[3]) };

	return address;
}

static __always_inline struct ip6 remote_ip6(struct bpf_sock_ops *ctx)
{
	struct ip6 address = { HOST(remote_ip6[0]) << 32 | HOST(remote_ip6[1]),
			       HOST(remote_ip6[2]) << 32 | HOST(remote_ip6[3]) };

	return address;
}

static __always_inline int below(struct ip6 address, u64 high, u64 low)
{
	return address.high < high || (address.high == high && address.low < low);
}
