// lora (rules.toml:3): rto 20s, syn_retries 2, rto_max 60s, congestion "reno", ecn, user_timeout 120s
static __always_inline int set_0(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 0);
		break;
	case BPF_SOCK_OPS_NEEDS_ECN:
		reply(ctx, 12, 1);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		set(ctx, 0, 0, SOL_TCP, TCP_SYNCNT, 2);
		// and what both ends have
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		set(ctx, 0, 9, SOL_TCP, TCP_RTO_MAX_MS, 60000);
		set(ctx, 0, 14, SOL_TCP, TCP_USER_TIMEOUT, 120000);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			break;
		// and what the end of the handshake sets anew
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		set_algorithm(ctx, 0, 11, SOL_TCP, TCP_CONGESTION, "reno");
		break;
	}
	return 1;
}

// datacentre (rules.toml:14): initial_cwnd 40, initial_rwnd 40, rto_min 5ms, delack_max 2ms, congestion "dctcp", tos 40
static __always_inline int set_1(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_RWND_INIT:
		reply(ctx, 3, 40);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(1);
		set(ctx, 1, 7, SOL_TCP, TCP_BPF_RTO_MIN, least(5000));
		set(ctx, 1, 8, SOL_TCP, TCP_BPF_DELACK_MAX, least(2000));
		set_tos(ctx, 1, 25, SOL_IP, IP_TOS, 40);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			break;
		// and what the end of the handshake sets anew
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		set(ctx, 1, 2, SOL_TCP, TCP_BPF_IW, 40);
		set_algorithm(ctx, 1, 10, SOL_TCP, TCP_CONGESTION, "dctcp");
		break;
	}
	return 1;
}

// bulk (rules.toml:25): synack_retries 8, cwnd_clamp 100, notsent_lowat 16384, sndbuf 1500000, rcvbuf 1500000, max_pacing_rate 12500000, mark 7, priority 1
static __always_inline int set_2(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		set(ctx, 2, 1, SOL_TCP, TCP_SYNCNT, 8);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(2);
		set(ctx, 2, 4, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, 100);
		set(ctx, 2, 20, SOL_TCP, TCP_NOTSENT_LOWAT, 16384);
		set(ctx, 2, 21, SOL_SOCKET, SO_SNDBUF, 1500000);
		set(ctx, 2, 22, SOL_SOCKET, SO_RCVBUF, 1500000);
		set(ctx, 2, 23, SOL_SOCKET, SO_MAX_PACING_RATE, 12500000);
		set(ctx, 2, 24, SOL_SOCKET, SO_MARK, 7);
		set(ctx, 2, 26, SOL_SOCKET, SO_PRIORITY, 1);
		break;
	}
	return 1;
}

// idle (rules.toml:37): keepalive_idle 60s, keepalive_interval 10s, keepalive_count 6, thin_linear_timeouts
static __always_inline int set_3(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(3);
		set_keepalive(ctx, 3, 16, SOL_TCP, TCP_KEEPIDLE, 60);
		set_keepalive(ctx, 3, 17, SOL_TCP, TCP_KEEPINTVL, 10);
		set_keepalive(ctx, 3, 18, SOL_TCP, TCP_KEEPCNT, 6);
		set(ctx, 3, 19, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
		break;
	}
	return 1;
}

// window (rules.toml:45): syn_retries 3, initial_rwnd 20, window_clamp 8400, max_segment 216
static __always_inline int set_4(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_RWND_INIT:
		reply(ctx, 3, 20);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		set(ctx, 4, 0, SOL_TCP, TCP_SYNCNT, 3);
		set(ctx, 4, 6, SOL_TCP, TCP_MAXSEG, 216);
		// and what both ends have
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(4);
		set(ctx, 4, 5, SOL_TCP, TCP_WINDOW_CLAMP, 8400);
		break;
	}
	return 1;
}

// database (rules.toml:53): nodelay, connect_timeout 1.5s
static __always_inline int set_5(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(5);
		set(ctx, 5, 13, SOL_TCP, TCP_NODELAY, 1);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			set(ctx, 5, 15, SOL_TCP, TCP_USER_TIMEOUT, 1500);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			break;
		// and what the end of the handshake sets anew
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (FIELD(op) == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
			set(ctx, 5, 15, SOL_TCP, TCP_USER_TIMEOUT, 0);
		break;
	}
	return 1;
}

// both-timeouts (rules.toml:59): user_timeout 3600s, connect_timeout 5s
static __always_inline int set_6(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(6);
		set(ctx, 6, 14, SOL_TCP, TCP_USER_TIMEOUT, 3600000);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			set(ctx, 6, 15, SOL_TCP, TCP_USER_TIMEOUT, 5000);
		if (FIELD(op) == BPF_SOCK_OPS_TCP_CONNECT_CB)
			break;
		// and what the end of the handshake sets anew
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (FIELD(op) == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
			set(ctx, 6, 15, SOL_TCP, TCP_USER_TIMEOUT, 3600000);
		break;
	}
	return 1;
}

// exempt (rules.toml:65): use "kernel"
static __always_inline int set_7(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		answer(ctx, 7);
		break;
	}
	return 1;
}

// asked (rules.toml:70): ecn
static __always_inline int set_8(struct bpf_sock_ops *ctx)
{
	switch (FIELD(op)) {
	case BPF_SOCK_OPS_NEEDS_ECN:
		count(8);
		reply(ctx, 12, 1);
		break;
	}
	return 1;
}

SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	u64 op = callback();

	if (op > BPF_SOCK_OPS_TCP_LISTEN_CB || one_by_one(op) == 10 || one_by_one(op) == 9 || one_by_one(op) == 8 || one_by_one(op) == 7)
		return 1;

	u64 local_port = FIELD(local_port);
	u64 remote_port = HOST(remote_port);

	if ((FIELD(remote_ip4) & PREFIX(8)) == IPV4(44, 0, 0, 0) &&
	    !is_incoming(ctx) &&
	    is_ipv4(ctx))
		return set_0(ctx); // lora (rules.toml:3)
	if (((FIELD(local_ip6[1]) & PREFIX(12)) == NET32(0x00400000) && FIELD(local_ip6[0]) == NET32(0x20010db8)) &&
	    ((FIELD(remote_ip6[1]) & PREFIX(12)) == NET32(0x00400000) && FIELD(remote_ip6[0]) == NET32(0x20010db8)))
		return set_1(ctx); // datacentre (rules.toml:14)
	if (within(local_port, 5000, 5009))
		return set_2(ctx); // bulk (rules.toml:25)
	if (local_port == 22 ||
	    remote_port == 22)
		return set_3(ctx); // idle (rules.toml:37)
	if (local_port == 80 ||
	    remote_port == 80)
		return set_4(ctx); // window (rules.toml:45)
	if (remote_port == 5432)
		return set_5(ctx); // database (rules.toml:53)
	if (remote_port == 5433)
		return set_6(ctx); // both-timeouts (rules.toml:59)
	if (remote_port == 5434)
		return set_7(ctx); // exempt (rules.toml:65)
	if (local_port == 443 ||
	    remote_port == 443)
		return set_8(ctx); // asked (rules.toml:70)
	return 1;
}

// Run once, in a cgroup of its own, to learn which settings this kernel supports. The answers are in
// the failures of the first rule: 0 for not tried, 1 for supported, 1 + errno for refused.
SEC("sockops")
int probe(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	try(ctx, 0, SOL_TCP, TCP_SYNCNT, 2);
	try(ctx, 1, SOL_TCP, TCP_SYNCNT, 8);
	try(ctx, 2, SOL_TCP, TCP_BPF_IW, 40);
	try(ctx, 4, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, 100);
	try(ctx, 5, SOL_TCP, TCP_WINDOW_CLAMP, 8400);
	try(ctx, 6, SOL_TCP, TCP_MAXSEG, 216);
	try(ctx, 7, SOL_TCP, TCP_BPF_RTO_MIN, least(5000));
	try(ctx, 8, SOL_TCP, TCP_BPF_DELACK_MAX, least(2000));
	try(ctx, 9, SOL_TCP, TCP_RTO_MAX_MS, 60000);
	try_algorithm(ctx, 10, SOL_TCP, TCP_CONGESTION, "dctcp");
	try_algorithm(ctx, 11, SOL_TCP, TCP_CONGESTION, "reno");
	try(ctx, 13, SOL_TCP, TCP_NODELAY, 1);
	try(ctx, 14, SOL_TCP, TCP_USER_TIMEOUT, 120000);
	try(ctx, 15, SOL_TCP, TCP_USER_TIMEOUT, 1500);
	try(ctx, 16, SOL_TCP, TCP_KEEPIDLE, 60);
	try(ctx, 17, SOL_TCP, TCP_KEEPINTVL, 10);
	try(ctx, 18, SOL_TCP, TCP_KEEPCNT, 6);
	try(ctx, 19, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	try(ctx, 20, SOL_TCP, TCP_NOTSENT_LOWAT, 16384);
	try(ctx, 21, SOL_SOCKET, SO_SNDBUF, 1500000);
	try(ctx, 22, SOL_SOCKET, SO_RCVBUF, 1500000);
	try(ctx, 23, SOL_SOCKET, SO_MAX_PACING_RATE, 12500000);
	try(ctx, 24, SOL_SOCKET, SO_MARK, 7);
	try(ctx, 25, SOL_IP, IP_TOS, 40);
	try(ctx, 26, SOL_SOCKET, SO_PRIORITY, 1);
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
