typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline, unused))

// The part of struct bpf_sock_ops that this program uses (include/uapi/linux/bpf.h). It is written out here, so the
// program needs no header and no relocation against the kernel's BTF.
struct bpf_sock_ops {
	u32 op;
	union {
		u32 args[4];
		u32 reply;
	};
	u32 family;
	u32 remote_ip4; // network byte order, like all addresses
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
	u32 not_used[11];
	u32 total_retrans;
};

enum {
	BPF_SOCK_OPS_TIMEOUT_INIT = 1,
	BPF_SOCK_OPS_RWND_INIT = 2,
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_NEEDS_ECN = 6,
	BPF_SOCK_OPS_RTO_CB = 8,
	BPF_SOCK_OPS_TCP_LISTEN_CB = 11,
};
enum { AF_INET = 2 };
enum { TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_LISTEN = 10 };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET32(x) __builtin_bswap32(x)
#else
#define NET32(x) (x)
#endif
#define IPV4(a, b, c, d) NET32((u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))
// The mask of a prefix of 1 to 32 bits, in network byte order.
#define PREFIX(bits) NET32(0xffffffffu << (32 - (bits)))

// A field of the context. It is loaded in assembly for two reasons. Clang would merge the ends of branches into one
// load at a computed address, which the verifier rejects. Also, no field may be loaded into the register that holds
// the context: kernels before 6.12 translate such loads of full sockets' fields wrongly.
#define LOAD(at, swap)                                                     \
	({                                                                 \
		u64 field;                                                 \
		asm("%0 = *(u32 *)(%1 + %2)" swap                          \
		    : "=&r"(field)                                         \
		    : "r"(ctx), "i"(__builtin_offsetof(struct bpf_sock_ops, at))); \
		field;                                                     \
	})
#define FIELD(name) LOAD(name, "")
// The same field, converted from network to host byte order.
#define HOST(name) LOAD(name, "\n\t%0 = be32 %0")

// The callback, loaded only for these comparisons. Clang would otherwise keep a copy for later uses.
#define callback()                                                               \
	({                                                                       \
		u64 op;                                                          \
		asm volatile("%0 = *(u32 *)(%1 + 0)" : "=&r"(op) : "r"(ctx)); \
		op;                                                              \
	})

// A comparison that clang does not merge with others. A merged mask of bits takes more instructions.
#define one_by_one(op)                         \
	({                                     \
		asm volatile("" : "+r"(op));   \
		op;                            \
	})

// Constants of this load. The loader has the same structure (src/shared.rs) and fills most of them in. `mark`
// identifies our programs. `bpftool prog show` prints these constants because of the name.
const volatile struct policy {
	char mark[16];
	u32 layout; // version of this structure
	u32 hz;
	u32 netns; // inode of the network namespace that the interface names belong to
	u32 rules;
	u32 columns;
	u32 two_jiffies_us;
	u64 without; // columns of settings that `install --partial` skips
	char version[16];
	char digest[72];
	u32 jiffies[RULES];
} bpf_metadata_policy SEC(".rodata") = {
	.mark = "set-rto policy",
	.layout = 1,
	.rules = RULES,
	.columns = COLUMNS,
	.version = VERSION,
	.digest = DIGEST,
};

// For each rule, the connections that it matched, and how often the kernel refused a setting.
struct {
	u64 hits[RULES];
#ifdef FAILURES_APART
	u64 failures[1][COLUMNS]; // the results of `probe`; see failures in settings.h
#elif COLUMNS
	u64 failures[RULES][COLUMNS];
#endif
} counters SEC(".bss");
#define hits counters.hits

static __always_inline int answer(struct bpf_sock_ops *ctx, u64 rule)
{
	u64 jiffies = bpf_metadata_policy.jiffies[rule];

#ifdef EXEMPTS
	// A rule that changes nothing leaves what another program has replied.
	if (jiffies)
#endif
		asm volatile("*(u32 *)(%1 + 4) = %0" ::"r"(jiffies), "r"(ctx) : "memory");
	// The kernel calls again at every retransmission of the SYN. Only the first call is counted.
	if (!FIELD(total_retrans))
		__sync_fetch_and_add(&hits[rule], 1);
	return 1;
}

// There is no rule.
#define NONE RULES

// The same, for a rule number from a table.
static __always_inline int answer_number(struct bpf_sock_ops *ctx, u64 rule)
{
	// Clang knows the contents of a small table and would search it for this number.
	asm volatile("" : "+r"(rule));
	if (rule >= RULES)
		return 1;
	return answer(ctx, rule);
}

// Returns the same number, but hides it from the verifier, which would otherwise follow the rest of the program once
// for each constant that it can be. To the verifier, two loads of one field are different numbers, and XOR with their
// difference may yield any number. (A sum would still have bounds of its own for each constant.)
static __always_inline u64 opaque(struct bpf_sock_ops *ctx, u64 number)
{
	u64 one, same;

	asm volatile("%0 = *(u32 *)(%3 + 20)\n\t%1 = *(u32 *)(%3 + 20)\n\t"
		     "%0 -= %1\n\t%2 ^= %0"
		     : "=&r"(one), "=&r"(same), "+&r"(number)
		     : "r"(ctx));
	return number;
}

static __always_inline u64 earlier(u64 rule, u64 other)
{
	return rule < other ? rule : other;
}

// Comparing with a constant needs no byte swap of the port. A constant with the topmost bit set cannot be an operand.
#define remote_port_is(port) \
	((port) & 0x80 ? HOST(remote_port) == (port) : FIELD(remote_port) == NET32(port))

static __always_inline int within(u64 value, u64 low, u64 high)
{
	return value >= low && value <= high;
}

// The family of the packets, not of the socket: an IPv6 socket connected to ::ffff:a.b.c.d sends IPv4. The ip4 fields
// are valid for both families. Without CONFIG_IPV6 the ip6 fields are all zero.
static __always_inline int is_ipv4(struct bpf_sock_ops *ctx)
{
	return FIELD(family) == AF_INET || (FIELD(remote_ip6[0]) == 0 && FIELD(remote_ip6[1]) == 0 &&
					    FIELD(remote_ip6[2]) == NET32(0xffff));
}

static __always_inline int same_address(struct bpf_sock_ops *ctx)
{
	if (is_ipv4(ctx))
		return FIELD(local_ip4) == FIELD(remote_ip4);
	return FIELD(local_ip6[0]) == FIELD(remote_ip6[0]) &&
	       FIELD(local_ip6[1]) == FIELD(remote_ip6[1]) &&
	       FIELD(local_ip6[2]) == FIELD(remote_ip6[2]) &&
	       FIELD(local_ip6[3]) == FIELD(remote_ip6[3]);
}

#ifdef OBSERVED
// Set when a connection begins, and valid for its whole life. (A socket that has connected before it listens passes it
// on to its children.)
enum { BPF_SOCK_OPS_RTO_CB_FLAG = 1 };
#define connects(ctx) (FIELD(cb_flags) & BPF_SOCK_OPS_RTO_CB_FLAG)
#else
#define connects(ctx) 0
#endif

// A listener counts as the end of an incoming connection from an unspecified address and port.
#ifdef LISTENERS
#define listens(ctx) (FIELD(state) == TCP_LISTEN)
#else
#define listens(ctx) 0
#endif

// A request socket, or a child created from it, answers a SYN. The two sockets of a simultaneous open are in the same
// state.
static __always_inline int is_incoming(struct bpf_sock_ops *ctx)
{
	return !FIELD(is_fullsock) || (FIELD(state) == TCP_SYN_RECV && !connects(ctx)) || listens(ctx);
}

// Copies the context to a register that survives helper calls or long code. This is in assembly because clang would
// copy it at the start of the program, which costs one instruction at callbacks that no rule needs.
static __always_inline struct bpf_sock_ops *over_calls(struct bpf_sock_ops *ctx)
{
	struct bpf_sock_ops *kept;

	asm volatile("%0 = %1" : "=r"(kept) : "r"(ctx));
	return kept;
}
