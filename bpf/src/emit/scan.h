// ---- Terms as data ----
//
// Where hundreds of rules test several things each, code would be too long: a dimension or two choose among
// short lists, and these are looked through term by term.

struct term {
	u32 rule;
	u32 bits; // which directions, families, … are meant, see struct facts; END: the last of its list
	u16 ports[4]; // local from, to; remote from, to
	struct ip6 from[2], to[2]; // local, remote; IPv4 as the low 32 bits
	u64 match, differ; // interface lists that the device's name must match, and must not
};

#define END 0x80000000u

// A connection in the same terms: of each group of bits one is set.
struct facts {
	u32 bits;
	u32 ports[2];
	struct ip6 address[2];
	u64 lists;
};

static __always_inline void gather(struct bpf_sock_ops *ctx, struct facts *facts)
{
	u64 local = FIELD(local_port), remote = HOST(remote_port);

	facts->ports[0] = local;
	facts->ports[1] = remote;
	facts->bits = (is_incoming(ctx) ? 2 : 1) | (is_ipv4(ctx) ? 4 : 8) | (same_address(ctx) ? 32 : 16) |
		      (local < remote ? 64 : local == remote ? 128 : 256);
	if (facts->bits & 4) {
		facts->address[0].high = facts->address[1].high = 0;
		facts->address[0].low = HOST(local_ip4);
		facts->address[1].low = HOST(remote_ip4);
	} else {
		facts->address[0] = local_ip6(ctx);
		facts->address[1] = remote_ip6(ctx);
	}
}

static __always_inline int fits(const struct term *term, const struct facts *facts)
{
	if (facts->bits & ~term->bits)
		return 0;
	for (int end = 0; end < 2; end++) {
		u32 port = facts->ports[end];

		if (port < term->ports[2 * end] || port > term->ports[2 * end + 1])
			return 0;
		if (below(facts->address[end], term->from[end].high, term->from[end].low) ||
		    below(term->to[end], facts->address[end].high, facts->address[end].low))
			return 0;
	}
	return (facts->lists & term->match) == term->match && !(facts->lists & term->differ);
}
