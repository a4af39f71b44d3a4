// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What one writes by hand today for "port 12345 waits 20 s": the measure for the generated program.
// HZ is typed in. hand_counting does what a rule does, hits included; hand_bare has no counter.

#define SEC(name) __attribute__((section(name), used))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bpf_ntohl(x) __builtin_bswap32(x)
#else
#define bpf_ntohl(x) (x)
#endif

enum { BPF_SOCK_OPS_TIMEOUT_INIT = 1 };

struct bpf_sock_ops { // include/uapi/linux/bpf.h
	unsigned int op, reply, replylong[3], family, remote_ip4, local_ip4;
	unsigned int remote_ip6[4], local_ip6[4], remote_port, local_port, is_fullsock;
	unsigned int snd_cwnd, srtt_us, bpf_sock_ops_cb_flags, state, rtt_min, snd_ssthresh;
	unsigned int rcv_nxt, snd_nxt, snd_una, mss_cache, ecn_flags, rate_delivered;
	unsigned int rate_interval_us, packets_out, retrans_out, total_retrans;
};

static const int port = 12345;
static const int timeout = 20;
static const int hz = 250;

unsigned long long hits SEC(".bss");

SEC("sockops")
int hand_counting(struct bpf_sock_ops *skops)
{
	int op = (int)skops->op;

	switch (op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		if (bpf_ntohl(skops->remote_port) != port && skops->local_port != port)
			break;
		skops->reply = hz * timeout;
		if (skops->total_retrans == 0)
			__sync_fetch_and_add(&hits, 1);
		break;
	}
	return 1;
}

SEC("sockops")
int hand_bare(struct bpf_sock_ops *skops)
{
	int op = (int)skops->op;

	switch (op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		if (bpf_ntohl(skops->remote_port) != port && skops->local_port != port)
			break;
		skops->reply = hz * timeout;
		break;
	}
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
