SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (ctx->op != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	// host (rules.toml:1): remote == 192.0.2.1 -> rto 2s
	if ((is_ipv4(ctx) && ctx->remote_ip4 == IPV4(192, 0, 2, 1)))
		return answer(ctx, 0);

	// amprnet (rules.toml:6): remote in {44.0.0.0/9, 44.128.0.0/10} -> rto 10s
	if ((is_ipv4(ctx) && ((ctx->remote_ip4 & PREFIX(9)) == IPV4(44, 0, 0, 0) ||
	     (ctx->remote_ip4 & PREFIX(10)) == IPV4(44, 128, 0, 0))))
		return answer(ctx, 1);

	// same-datacentre (rules.toml:11): local == 2001:db8:40::/44 and remote == 2001:db8:40::/44 -> rto 10ms
	if ((!is_ipv4(ctx) && (ctx->local_ip6[0] == NET32(0x20010db8) && (ctx->local_ip6[1] & PREFIX(12)) == NET32(0x00400000))) &&
	    (!is_ipv4(ctx) && (ctx->remote_ip6[0] == NET32(0x20010db8) && (ctx->remote_ip6[1] & PREFIX(12)) == NET32(0x00400000))))
		return answer(ctx, 2);

	// both-families (rules.toml:17): local in {10.0.0.0/8, fd00::/8, 2001:db8::1} -> rto 1.5s
	if ((is_ipv4(ctx) && (ctx->local_ip4 & PREFIX(8)) == IPV4(10, 0, 0, 0)) ||
	    (!is_ipv4(ctx) && ((ctx->local_ip6[0] & PREFIX(8)) == NET32(0xfd000000) ||
	     (ctx->local_ip6[0] == NET32(0x20010db8) && ctx->local_ip6[1] == NET32(0x00000000) && ctx->local_ip6[2] == NET32(0x00000000) && ctx->local_ip6[3] == NET32(0x00000001)))))
		return answer(ctx, 3);

	// mapped-is-ipv4 (rules.toml:22): remote == 198.51.100.0/24 -> rto 3s
	if ((is_ipv4(ctx) && (ctx->remote_ip4 & PREFIX(24)) == IPV4(198, 51, 100, 0)))
		return answer(ctx, 4);

	// all-ipv6 (rules.toml:27): remote == ::/0 -> rto 4s
	if (!is_ipv4(ctx))
		return answer(ctx, 5);

	// rest (rules.toml:32): family == "ipv4" -> rto 5s
	if (is_ipv4(ctx))
		return answer(ctx, 6);

	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
