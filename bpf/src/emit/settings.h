// ---- What rules set besides the timer ----

// arch/mips/include/uapi/asm/socket.h has numbers of its own.
#ifdef MIPS_SOCKET_OPTIONS
#define MIPS_OR(mips, other) mips
#else
#define MIPS_OR(mips, other) other
#endif
enum { SOL_IP = 0, SOL_SOCKET = MIPS_OR(0xffff, 1), SOL_TCP = 6, SOL_IPV6 = 41 };
enum { SO_KEEPALIVE = MIPS_OR(0x0008, 9), IPV6_TCLASS = 67 };

static long (*setsockopt)(void *ctx, int level, int option, const void *value, int size) = (void *)49;

// False for a setting that this kernel lacks and `install --partial` leaves out.
static __always_inline int has(u32 column)
{
	return !(bpf_metadata_policy.without >> column & 1);
}

static __always_inline void count(u64 rule)
{
	__sync_fetch_and_add(&hits[rule], 1);
}

static __always_inline void reply(struct bpf_sock_ops *ctx, u32 column, u64 value)
{
	if (has(column))
		asm volatile("*(u32 *)(%1 + 4) = %0" ::"r"(value), "r"(ctx) : "memory");
}

// The timer by the number of the rule, if it has one.
static __always_inline void answer_timed(struct bpf_sock_ops *ctx, u64 rule)
{
	u64 jiffies = bpf_metadata_policy.jiffies[rule];

	if (jiffies)
		asm volatile("*(u32 *)(%1 + 4) = %0" ::"r"(jiffies), "r"(ctx) : "memory");
}

#ifdef FAILURES_APART
// Used if hits and failures do not fit in one section.
struct {
	int (*type)[2]; // BPF_MAP_TYPE_ARRAY
	int (*max_entries)[RULES];
	u32 *key;
	u64 (*value)[COLUMNS];
} failures SEC(".maps");

static void *(*failures_of)(void *map, const void *key) = (void *)1;

static __always_inline void tell(u64 rule, u32 column, long error)
{
	u32 key = rule;
	u64 *counts;

	if (!error)
		return;
	counts = failures_of(&failures, &key);
	if (counts)
		__sync_fetch_and_add(&counts[column], 1);
}
#else
static __always_inline void tell(u64 rule, u32 column, long error)
{
	if (error)
		__sync_fetch_and_add(&counters.failures[rule][column], 1);
}
#endif

static __always_inline void set(struct bpf_sock_ops *ctx, u64 rule, u32 column, int level, int option,
				u32 value)
{
	if (has(column))
		tell(rule, column, setsockopt(ctx, level, option, &value, sizeof(value)));
}

// The kernel's minimum is two jiffies (TCP_TIMEOUT_MIN, include/net/tcp.h).
static __always_inline u32 least(u32 us)
{
	u32 two = bpf_metadata_policy.two_jiffies_us;

	return us < two ? two : us;
}

// Only sockets with SO_KEEPALIVE send probes.
static __always_inline void set_keepalive(struct bpf_sock_ops *ctx, u64 rule, u32 column, int level,
					  int option, u32 value)
{
	set(ctx, rule, column, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(ctx, rule, column, level, option, value);
}

#define set_algorithm(ctx, rule, column, level, option, name)                                           \
	({                                                                                              \
		char algorithm[16] = name;                                                              \
		if (has(column))                                                                        \
			tell(rule, column, setsockopt(ctx, level, option, algorithm, sizeof(algorithm))); \
	})

// An IPv6 socket with mapped addresses sends IPv4 headers.
static __always_inline void set_tos(struct bpf_sock_ops *ctx, u64 rule, u32 column, int level, int option,
				    u32 value)
{
	if (is_ipv4(ctx))
		set(ctx, rule, column, level, option, value);
	else
		set(ctx, rule, column, SOL_IPV6, IPV6_TCLASS, value);
}

static __always_inline void try(struct bpf_sock_ops *ctx, u32 column, int level, int option, u32 value)
{
	counters.failures[0][column] = 1 - setsockopt(ctx, level, option, &value, sizeof(value));
}

#define try_algorithm(ctx, column, level, option, name)                                                     \
	({                                                                                                  \
		char algorithm[16] = name;                                                                  \
		counters.failures[0][column] = 1 - setsockopt(ctx, level, option, algorithm, sizeof(algorithm)); \
	})
