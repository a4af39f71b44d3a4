// ---- What happens to a connection that a rule decides about ----

static __always_inline int observe(struct bpf_sock_ops *ctx, u64 rule)
{
	u64 op = callback(), timer = bpf_metadata_policy.jiffies[rule];
	u32 us = 0, retransmits, incoming;

#ifdef EVIDENCE
	struct evidence *counters;
	u32 key;

	if (op == BPF_SOCK_OPS_RTO_CB) {
		// args: retransmissions so far, the timer, whether the kernel gives up.
		if (!FIELD(args[2]) || FIELD(state) != TCP_SYN_SENT)
			return 1;
		key = rule << 1;
		counters = evidence_of(&evidence, &key);
		if (counters) {
			add(&counters->gave_up, 1);
			add(&counters->retransmissions, FIELD(args[0]));
		}
		return 1;
	}
#endif
	if (op != BPF_SOCK_OPS_TIMEOUT_INIT && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	retransmits = FIELD(total_retrans);
	incoming = is_incoming(ctx);
	if (op != BPF_SOCK_OPS_TIMEOUT_INIT)
		us = round_trip(ctx, op, retransmits);
#ifdef HOSTS
	if (bounds_of[rule].max) {
		timer = to_jiffies(learn(ctx, op, &bounds_of[rule], incoming, us, retransmits)) + 1;
		if (timer > ticks.most)
			timer = ticks.most;
	}
#endif
	if (op == BPF_SOCK_OPS_TIMEOUT_INIT) {
		if (timer)
			asm volatile("*(u32 *)(%1 + 4) = %0" ::"r"(timer), "r"(ctx) : "memory");
		// The kernel calls again at every retransmission of the SYN.
		if (retransmits)
			return 1;
		if (!incoming)
			cb_flags_set(ctx, FIELD(cb_flags) | BPF_SOCK_OPS_RTO_CB_FLAG);
	}
#ifdef EVIDENCE
	key = rule << 1 | incoming;
	counters = evidence_of(&evidence, &key);
	if (!counters)
		return 1;
	if (op == BPF_SOCK_OPS_TIMEOUT_INIT) {
		add(&counters->asked, 1);
		return 1;
	}
	add(&counters->answered, 1);
	if (retransmits) {
		add(&counters->answered_late, 1);
		add(&counters->retransmissions, retransmits);
		if (to_jiffies(us) > (timer ? timer : bpf_metadata_policy.hz))
			add(&counters->needless, 1);
	}
#ifdef HISTOGRAM
	if (us)
		count_round_trip(counters, us);
#endif
#elif !COLUMNS
	if (op == BPF_SOCK_OPS_TIMEOUT_INIT)
		__sync_fetch_and_add(&hits[rule], 1);
#endif
	return 1;
}
