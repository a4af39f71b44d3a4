// ---- The round trip of a handshake ----

// Filled in by the loader.
const volatile struct ticks {
	u64 per_us; // jiffies of a microsecond, times 2^32
	u32 shift; // 2^shift jiffies take about a second
	u32 most; // jiffies of TCP_RTO_MAX (include/net/tcp.h)
} ticks SEC(".rodata.ticks");

static long (*cb_flags_set)(void *ctx, int flags) = (void *)59;

// Rounds down. Division is slow on 32-bit machines.
static __always_inline u64 to_jiffies(u64 us)
{
	return us * ticks.per_us >> 32;
}

// A pointer of the context, see FIELD. The verifier knows its type.
#define CONTEXT_POINTER(at)                                                             \
	({                                                                              \
		void *pointer;                                                          \
		asm volatile("%0 = *(u64 *)(%1 + %2)" : "=&r"(pointer) : "r"(ctx), "i"(at)); \
		pointer;                                                                \
	})

// True if the packet at hand has data, or is not readable. Offsets of `skb_data`, `skb_data_end` and `skb_len`, all
// from Linux 5.10 on.
static __always_inline int carries_data(struct bpf_sock_ops *ctx)
{
	u8 *header = CONTEXT_POINTER(192);
	u8 *end = CONTEXT_POINTER(200);
	u32 length;

	if (header + 20 > end)
		return 1;
	asm volatile("%0 = *(u32 *)(%1 + 208)" : "=&r"(length) : "r"(ctx));
	return length > (u32)(header[12] >> 4 << 2);
}

// True for a multiple of 1000: times the inverse of 125 modulo 2^32, a multiple of 125 gives the quotient, and any
// other number more than the greatest quotient.
static __always_inline int is_whole_ms(u32 us)
{
	return !(us & 7) && us * 0x26e978d5 <= 0xffffffff / 125;
}

// Microseconds from the SYN, or the SYN-ACK, to its answer; 0 if unknown. At this callback the smoothed round trip is
// the handshake's, times 8.
//
// The kernel has none for a child of TCP Fast Open, nor after a retransmission without timestamps. A sample that means
// something else is left out:
// - A simultaneous open and a connection to itself end with the callback of incoming connections.
// - TCP_DEFER_ACCEPT waits for data, so the packet that ends its handshake has some.
// - After a SYN cookie the sample is by the timestamp, which tells milliseconds and is up to 64 of them early
//   (cookie_init_timestamp(), net/ipv4/syncookies.c). A timer's own sample is a whole number of them once in a thousand.
static __always_inline u32 round_trip(struct bpf_sock_ops *ctx, u64 op, u32 retransmits)
{
	u32 us = FIELD(srtt_us) >> 3;

	if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return us;
	if (connects(ctx) || carries_data(ctx) || (!retransmits && is_whole_ms(us)))
		return 0;
	return us;
}
