typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET32(x) __builtin_bswap32(x)
#else
#define NET32(x) (x)
#endif
#define JIFFIES(ms) ((u32)((u64)(ms) * HZ / 1000))

// include/uapi/linux/bpf.h
enum { TIMEOUT_INIT = 1, HASH = 1, LPM_TRIE = 11 };

struct bpf_sock_ops {
	u32 op, reply, replylong[3], family, remote_ip4, local_ip4;
	u32 remote_ip6[4], local_ip6[4], remote_port, local_port, is_fullsock;
	u32 snd_cwnd, srtt_us, cb_flags, state;
};

struct key4 {
	u32 length, address;
};

struct key6 {
	u32 length, address[4];
};

struct value {
	u32 rule, jiffies;
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;

char _license[] SEC("license") = "GPL";
u64 hits[RULES] SEC(".bss");

static inline __attribute__((always_inline, unused)) int answer(struct bpf_sock_ops *ctx, u32 rule, u32 jiffies)
{
	u64 retransmits;

	ctx->reply = jiffies;
	// ctx->total_retrans, by hand to keep ctx in its register.
	asm volatile("%0 = *(u32 *)(%1 + 136)" : "=&r"(retransmits) : "r"(ctx));
	if (!retransmits)
		__sync_fetch_and_add(&hits[rule], 1);
	return 1;
}

static inline __attribute__((always_inline, unused)) int is_ipv4(struct bpf_sock_ops *ctx)
{
	return ctx->family == 2 ||
	       (ctx->remote_ip6[0] == 0 && ctx->remote_ip6[1] == 0 && ctx->remote_ip6[2] == NET32(0xffff));
}

static inline __attribute__((always_inline, unused)) int is_incoming(struct bpf_sock_ops *ctx)
{
	return !ctx->is_fullsock || ctx->state == 3;
}
