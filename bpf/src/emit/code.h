// ---- Tests in C, from the file that [code] names ----

#define bool _Bool
#define true 1
#define false 0

// What a test knows about a connection. It has no access to anything else.
struct connection {
	bool is_ipv4; // the packets, not the socket
	bool is_outgoing; // this host sends the SYN
	u16 local_port; // host byte order, as the other port
	u16 remote_port;
	u32 local[4]; // host byte order; IPv4 is ::ffff:a.b.c.d, whose last word is the address
	u32 remote[4];
	u32 mark; // of the socket that sends the SYN, 0 for an incoming connection
};

static __always_inline void describe(struct bpf_sock_ops *ctx, struct connection *c)
{
	c->is_ipv4 = is_ipv4(ctx);
	c->is_outgoing = !is_incoming(ctx);
	c->local_port = FIELD(local_port);
	c->remote_port = HOST(remote_port);
	c->mark = c->is_outgoing ? OF_SOCKET(mark) : 0;
	if (c->is_ipv4) {
		c->local[0] = c->local[1] = c->remote[0] = c->remote[1] = 0;
		c->local[2] = c->remote[2] = 0xffff;
		c->local[3] = HOST(local_ip4);
		c->remote[3] = HOST(remote_ip4);
	} else {
		c->local[0] = HOST(local_ip6[0]);
		c->local[1] = HOST(local_ip6[1]);
		c->local[2] = HOST(local_ip6[2]);
		c->local[3] = HOST(local_ip6[3]);
		c->remote[0] = HOST(remote_ip6[0]);
		c->remote[1] = HOST(remote_ip6[1]);
		c->remote[2] = HOST(remote_ip6[2]);
		c->remote[3] = HOST(remote_ip6[3]);
	}
}

#define TEST(name, number)                                                       \
	static __always_inline bool name(const struct connection *c);    \
	static __always_inline bool test_##number(struct bpf_sock_ops *ctx) \
	{                                                                \
		struct connection c;                                     \
		describe(ctx, &c);                                       \
		return name(&c);                                         \
	}
