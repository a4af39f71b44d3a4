typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline, unused))

// The part of struct bpf_sock_ops that is used (include/uapi/linux/bpf.h). Written out here, so that
// the program has no header and no relocation that would need the kernel's BTF.
struct bpf_sock_ops {
	u32 op;
	union {
		u32 args[4];
		u32 reply;
	};
	u32 family;
	u32 remote_ip4; // network byte order, as all addresses
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port; // network byte order, in the upper half on little-endian machines
	u32 local_port; // host byte order
	u32 is_fullsock;
	u32 snd_cwnd;
	u32 srtt_us;
	u32 cb_flags;
	u32 state;
};

enum { BPF_SOCK_OPS_TIMEOUT_INIT = 1 };
enum { AF_INET = 2 };
enum { TCP_SYN_RECV = 3 };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET32(x) __builtin_bswap32(x)
#else
#define NET32(x) (x)
#endif
#define IPV4(a, b, c, d) NET32((u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))
// The mask of a prefix of 1 to 32 bits, network byte order.
#define PREFIX(bits) NET32(0xffffffffu << (32 - (bits)))

// Constants of this load: hz, netns and jiffies[] are filled in by the loader. The name makes
// `bpftool prog show` print them.
const volatile struct {
	u32 hz;
	u32 netns; // inode of the network namespace whose interface names are meant
	u32 rules;
	char version[16];
	char digest[65];
	u32 jiffies[RULES];
} bpf_metadata_policy SEC(".rodata") = {
	.rules = RULES,
	.version = VERSION,
	.digest = DIGEST,
};

// Connections answered, for each rule.
u64 hits[RULES] SEC(".bss");

// The timer is an immediate operand. This value stands for it until the loader, which knows HZ, puts
// in the jiffies: it looks for a move of TIMER + rule that is followed by a store to ctx->reply.
#define TIMER 0x5e770000

static __always_inline int answer(struct bpf_sock_ops *ctx, u32 rule)
{
	u64 jiffies, retransmits;

	asm volatile("%0 = %1\n\t*(u32 *)(%2 + 4) = %0"
		     : "=&r"(jiffies)
		     : "i"(TIMER + rule), "r"(ctx)
		     : "memory");
	// The kernel asks again at every retransmission of the SYN: count the first time only.
	// ctx->total_retrans, by hand: the compiler may overwrite ctx with what it loads from it,
	// which kernels before 6.12 translate into a load from the wrong object.
	asm volatile("%0 = *(u32 *)(%1 + 136)" : "=&r"(retransmits) : "r"(ctx));
	if (!retransmits)
		__sync_fetch_and_add(&hits[rule], 1);
	return 1;
}

static __always_inline u32 remote_port(struct bpf_sock_ops *ctx)
{
	return NET32(ctx->remote_port);
}

static __always_inline int within(u32 port, u32 low, u32 high)
{
	return port >= low && port <= high;
}

// Of the packets, not of the socket: an IPv6 socket that talks to ::ffff:a.b.c.d sends IPv4.
// The ip4 fields are right for both; without CONFIG_IPV6 the ip6 fields are all zero.
static __always_inline int is_ipv4(struct bpf_sock_ops *ctx)
{
	return ctx->family == AF_INET || (ctx->remote_ip6[0] == 0 && ctx->remote_ip6[1] == 0 &&
					  ctx->remote_ip6[2] == NET32(0xffff));
}

// A request socket, or the child that TCP Fast Open makes of it, answers a SYN.
static __always_inline int is_incoming(struct bpf_sock_ops *ctx)
{
	return !ctx->is_fullsock || ctx->state == TCP_SYN_RECV;
}
