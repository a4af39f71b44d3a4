// ---- The type of service ----

static long (*getsockopt)(void *ctx, int level, int option, void *value, int size) = (void *)57;

// The TOS or the traffic class of a socket's packets, without the two bits of ECN, which the kernel changes. An IPv6
// socket with mapped addresses sends IPv4 headers. Most kernels do not report its TOS: it is 0.
static __always_inline u64 tos_of(struct bpf_sock_ops *ctx)
{
	u32 tos = 0;

	if (is_ipv4(ctx))
		getsockopt(ctx, 0 /* SOL_IP */, 1 /* IP_TOS */, &tos, sizeof(tos));
	else
		getsockopt(ctx, 41 /* SOL_IPV6 */, 67 /* IPV6_TCLASS */, &tos, sizeof(tos));
	return tos & 0xfc;
}
