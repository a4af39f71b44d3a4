// ---- Evidence ----

enum { BUCKETS = 19 };

// For each rule, of outgoing and of incoming connections.
struct evidence {
	u64 asked; // connections
	u64 answered;
	u64 answered_late; // after a retransmission
	u64 retransmissions; // SYN or SYN-ACK
	u64 needless; // of `answered_late`, those whose answer took longer than the timer
	u64 gave_up;
#ifdef HISTOGRAM
	u64 round_trips_us; // their sum
	u64 round_trips[BUCKETS]; // [0]: below 256 microseconds, each next one twice as long, the last one: longer
#endif
};

struct {
	int (*type)[2]; // BPF_MAP_TYPE_ARRAY
	int (*max_entries)[2 * RULES];
	u32 *key;
	struct evidence *value;
} evidence SEC(".maps");

static struct evidence *(*evidence_of)(void *map, const u32 *key) = (void *)1;

static __always_inline void add(u64 *counter, u64 number)
{
	__sync_fetch_and_add(counter, number);
}

#ifdef HISTOGRAM
// Adds 2^log to the result, and removes it from the number, if it has so many bits or more. Without a branch: the
// verifier would follow both.
#define HALVE(log)                                                  \
	({                                                          \
		u64 by = ((1ull << (1 << (log))) - 1 - rest) >> 63; \
		asm("" : "+r"(by));                                 \
		by <<= (log);                                       \
		rest >>= by;                                        \
		bucket += by;                                       \
	})

static __always_inline void count_round_trip(struct evidence *it, u32 us)
{
	u64 rest = us >> 7, bucket = 0;

	HALVE(4);
	HALVE(3);
	HALVE(2);
	HALVE(1);
	bucket += rest >> 1;
	if (bucket >= BUCKETS)
		bucket = BUCKETS - 1;
	add(&it->round_trips[bucket], 1);
	add(&it->round_trips_us, us);
}
#endif
