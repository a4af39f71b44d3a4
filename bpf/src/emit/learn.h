// ---- Learned timers ----

// From a remote host, and from hosts that one rule decides about.
struct peers {
	u32 host[4]; // network byte order, IPv4 mapped, IPv6 of incoming connections by /64; 0: all hosts
	u32 rule[2]; // a hash of its name; the last bit is set for incoming connections
};

// RFC 6298, in microseconds. Stores of aligned words race harmlessly: a sample may be lost.
struct estimate {
	u32 srtt8; // smoothed round trip, times 8
	u32 rttvar4; // its variation, times 4
	u32 when; // the last sample, in units of ticks.shift
	u32 samples; // 0: only retransmissions without a sample
};

// Kept by the next install. The loader raises the number of hosts for many processors, of which each may keep 128 free
// entries to itself (kernel/bpf/bpf_lru_list.c).
struct {
	int (*type)[9]; // BPF_MAP_TYPE_LRU_HASH
	int (*max_entries)[HOSTS];
	struct peers *key;
	struct estimate *value;
} learned SEC(".maps");

// By the number of the rule; 0 for one that does not learn.
struct bounds {
	u32 start, min, max; // microseconds
	u32 rule[2];
};

static u64 (*jiffies64)(void) = (void *)118;
static struct estimate *(*learned_about)(void *map, const struct peers *peers) = (void *)1;
static long (*learn_about)(void *map, const struct peers *peers, const struct estimate *first, u64 flags) = (void *)2;

enum { BPF_NOEXIST = 1 };
enum {
	AGE_SHIFT = 9, // after 2^9 seconds without a sample the margin doubles
	MOST_AGE = 16,
	MOST_DOUBLINGS = 3,
};

// SRTT + max(4 * RTTVAR, SRTT / 2): a steady path must not shrink the margin to nothing. What is old is believed less:
// the margin grows until the timer is the first one again.
static __always_inline u32 timer_us(const struct estimate *it, const struct bounds *bounds, u32 now)
{
	u32 age = (now - it->when) >> AGE_SHIFT;
	u64 srtt = it->srtt8 >> 3, margin = it->rttvar4, timer;

	if (margin < srtt >> 1)
		margin = srtt >> 1;
	timer = srtt + margin;
	if (timer < bounds->start) {
		timer = srtt + (margin << (age > MOST_AGE ? MOST_AGE : age));
		if (timer > bounds->start)
			timer = bounds->start;
	}
	if (timer < bounds->min)
		timer = bounds->min;
	return timer > bounds->max ? bounds->max : timer;
}

// Section 2.2. `us` is 0 if only the backed-off timer is known.
static __always_inline void begin(struct estimate *it, u32 us, u32 timer, u32 now)
{
	it->srtt8 = us << 3;
	it->rttvar4 = us ? us << 1 : timer;
	it->when = now;
	it->samples = us ? 1 : 0;
}

// Section 2.3, but the variation falls by 1/8: one long answer is remembered for longer.
static __always_inline void take_sample(struct estimate *it, u32 us, u32 now)
{
	u32 srtt = it->srtt8 >> 3;
	u32 apart = us > srtt ? us - srtt : srtt - us;
	u32 variation = it->rttvar4 >> 2;

	it->srtt8 += us - srtt;
	if (apart > variation)
		it->rttvar4 += apart - variation;
	else
		it->rttvar4 -= (variation - apart) >> 1;
	it->when = now;
	it->samples++;
}

// Makes the timer at least so long.
static __always_inline void back_off(struct estimate *it, u32 timer, u32 now)
{
	u32 srtt = it->srtt8 >> 3;

	if (timer > srtt + it->rttvar4)
		it->rttvar4 = timer - srtt;
	it->when = now;
}

// The first timer of a connection in microseconds; learns at the end of a handshake.
static __always_inline u32 learn(struct bpf_sock_ops *ctx, u64 op, const struct bounds *bounds, u32 incoming,
				 u32 us, u32 retransmits)
{
	struct peers host = { .host = { 0, 0, NET32(0xffff), FIELD(remote_ip4) } }, all = {};
	u32 now = jiffies64() >> ticks.shift, timer = bounds->start;
	struct estimate first, *known, *of_all = 0;
	u64 later;

	if (!is_ipv4(ctx)) {
		host.host[0] = FIELD(remote_ip6[0]);
		host.host[1] = FIELD(remote_ip6[1]);
		// No network fills the table: whoever has a /64 has all its addresses.
		host.host[2] = incoming ? 0 : FIELD(remote_ip6[2]);
		host.host[3] = incoming ? 0 : FIELD(remote_ip6[3]);
	}
	host.rule[0] = all.rule[0] = bounds->rule[0];
	host.rule[1] = all.rule[1] = bounds->rule[1] | incoming;
	known = learned_about(&learned, &host);
	if (known) {
		timer = timer_us(known, bounds, now);
	} else {
		of_all = learned_about(&learned, &all);
		if (of_all)
			timer = timer_us(of_all, bounds, now);
	}
	if (op == BPF_SOCK_OPS_TIMEOUT_INIT) {
		// Twice unanswered: a short timer must not go on.
		if (known && retransmits > 1)
			back_off(known, bounds->start, now);
		return timer;
	}
	if (!us && !retransmits)
		return timer;
	if (us > bounds->max)
		us = bounds->max;
	// Karn's algorithm: where there is no sample, the timer backs off.
	later = (u64)timer << (retransmits > MOST_DOUBLINGS ? MOST_DOUBLINGS : retransmits);
	if (later > bounds->max)
		later = bounds->max;
	if (known) {
		if (!us)
			back_off(known, later, now);
		else if (known->samples)
			take_sample(known, us, now);
		else
			begin(known, us, later, now);
		return timer;
	}
	begin(&first, us, later, now);
	learn_about(&learned, &host, &first, BPF_NOEXIST);
	// What stands for hosts that are not known yet takes each host's first sample only, so none counts twice.
	if (!us)
		return timer;
	if (of_all)
		take_sample(of_all, us, now);
	else
		learn_about(&learned, &all, &first, BPF_NOEXIST);
	return timer;
}
