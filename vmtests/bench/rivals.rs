//! The rivals of the compiler's programs, as a person would write them: the same rules as a chain of comparisons and as
//! a map. They count hits as set-rto does.

use crate::rule::Prefix;
use crate::rule::Rule;
use crate::rule::rto_ms;
use crate::sets::RuleSet;
use crate::sets::Shape;
use std::fmt::Write as _;

/// A program that answers nothing.
pub(crate) const EMPTY: &str = r#"
__attribute__((section("sockops"), used)) int empty(void *ctx)
{
	return 1;
}

char _license[] __attribute__((section("license"), used)) = "GPL";
"#;

/// The common beginning of both.
const PRELUDE: &str = include_str!("rivals.h");

/// The file of the hand-written program, and its function that counts hits.
pub(crate) const HAND_WRITTEN: &str = include_str!("hand_written.bpf.c");
pub(crate) const HAND_FUNCTION: &str = "hand_counting";

/// The constants in that file.
pub(crate) const HAND_HZ: u32 = 250;

/// The contents for the map of [`map`]: keys and values, one after the other.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) count: usize,
    pub(crate) keys: Vec<u8>,
    pub(crate) values: Vec<u8>,
}

/// The rules as a chain of comparisons, in the order of the rules.
pub(crate) fn chain(set: &RuleSet) -> String {
    let mut out = start(set);
    out.push_str("\nSEC(\"sockops\") int chain(struct bpf_sock_ops *ctx)\n{\n");
    out.push_str("\tif (ctx->op != TIMEOUT_INIT)\n\t\treturn 1;\n");
    out.push_str("\tu32 local_port = ctx->local_port, remote_port = NET32(ctx->remote_port);\n");
    out.push_str("\tint v4 = is_ipv4(ctx), incoming = is_incoming(ctx);\n");
    for end in ["local", "remote"] {
        let word = |at: u32| format!("{end}{at} = NET32(ctx->{end}_ip6[{at}])");
        let words: Vec<_> = (0..4).map(word).collect();
        let _ = writeln!(out, "\tu32 {end}4 = NET32(ctx->{end}_ip4), {};", words.join(", "));
    }
    out.push('\n');
    for (at, rule) in set.rules.iter().enumerate() {
        let answer = format!("return answer(ctx, {at}, JIFFIES({}));", rto_ms(at));
        let conditions = conditions(rule);
        match &rule.remote[..] {
            [] | [_] => {
                let _ = writeln!(out, "\tif ({})\n\t\t{answer}", conditions.join(" && "));
            }
            // A long list: one comparison for each item, and one answer for all.
            list => {
                for prefix in list {
                    let _ =
                        writeln!(out, "\tif ({})\n\t\tgoto match{at};", inside("remote", *prefix));
                }
                let _ = writeln!(out, "\treturn 1;\nmatch{at}:\n\t{answer}");
            }
        }
    }
    out.push_str("\treturn 1;\n}\n");
    out
}

/// The rules as a map, with the port of either end or the longest matching prefix of the remote address as the key.
/// Returns `None` for rules of several conditions.
pub(crate) fn map(set: &RuleSet) -> Option<(String, Entries)> {
    let (kind, flags, key, body) = match set.shape {
        Shape::Ports => ("HASH", 0, "u32", PORTS),
        Shape::List { is_v4: true } | Shape::Prefixes { is_v4: true } => {
            ("LPM_TRIE", NO_PREALLOC, "struct key4", V4)
        }
        Shape::List { is_v4: false } | Shape::Prefixes { is_v4: false } => {
            ("LPM_TRIE", NO_PREALLOC, "struct key6", V6)
        }
        Shape::Mixed => return None,
    };
    let mut entries = Entries::default();
    for (at, rule) in set.rules.iter().enumerate() {
        let mut add = |key: &[u8]| {
            entries.count += 1;
            entries.keys.extend_from_slice(key);
            for word in [at as u32, jiffies(at)] {
                entries.values.extend_from_slice(&word.to_ne_bytes());
            }
        };
        rule.port.iter().for_each(|port| add(&u32::from(port.0).to_ne_bytes()));
        for prefix in &rule.remote {
            let mut key = prefix.length.to_ne_bytes().to_vec();
            match prefix.is_v4 {
                true => key.extend_from_slice(&(prefix.bits as u32).to_be_bytes()),
                false => key.extend_from_slice(&prefix.bits.to_be_bytes()),
            }
            add(&key);
        }
    }
    let mut out = start(set);
    let _ = write!(
        out,
        "\nstruct {{\n\tint (*type)[{kind}];\n\tint (*map_flags)[{flags}];\n\tint (*max_entries)[{}];\n\t\
         {key} *key;\n\tstruct value *value;\n}} rules SEC(\".maps\");\n{body}",
        entries.count
    );
    Some((out, entries))
}

/// The timer of a rule in ticks of this kernel.
pub(crate) fn jiffies(rule: usize) -> u32 {
    rto_ms(rule) * hz() / 1_000
}

/// This kernel's HZ: the coarse clock advances by one tick.
pub(crate) fn hz() -> u32 {
    use nix::time::{ClockId, clock_getres};
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(4_000_000, |it| it.tv_nsec());
    (1_000_000_000.0 / tick as f64).round() as u32
}

/// `BPF_F_NO_PREALLOC`, which is mandatory for tries.
const NO_PREALLOC: u32 = 1;

const PORTS: &str = r#"
SEC("sockops") int hash(struct bpf_sock_ops *ctx)
{
	if (ctx->op != TIMEOUT_INIT)
		return 1;
	u32 local = ctx->local_port, remote = NET32(ctx->remote_port);
	struct value *one = map_lookup_elem(&rules, &local);
	struct value *other = map_lookup_elem(&rules, &remote);

	if (!one || (other && other->rule < one->rule))
		one = other;
	if (!one || one->rule >= RULES)
		return 1;
	return answer(ctx, one->rule, one->jiffies);
}
"#;

const V4: &str = r#"
SEC("sockops") int trie(struct bpf_sock_ops *ctx)
{
	if (ctx->op != TIMEOUT_INIT || !is_ipv4(ctx))
		return 1;
	struct key4 key = { 32, ctx->remote_ip4 };
	struct value *found = map_lookup_elem(&rules, &key);

	if (!found || found->rule >= RULES)
		return 1;
	return answer(ctx, found->rule, found->jiffies);
}
"#;

const V6: &str = r#"
SEC("sockops") int trie(struct bpf_sock_ops *ctx)
{
	if (ctx->op != TIMEOUT_INIT || is_ipv4(ctx))
		return 1;
	struct key6 key = { 128, { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3] } };
	struct value *found = map_lookup_elem(&rules, &key);

	if (!found || found->rule >= RULES)
		return 1;
	return answer(ctx, found->rule, found->jiffies);
}
"#;

fn start(set: &RuleSet) -> String {
    format!("#define RULES {}\n#define HZ {}\n{PRELUDE}", set.rules.len(), hz())
}

/// The conditions, except lists.
fn conditions(rule: &Rule) -> Vec<String> {
    let mut all = Vec::new();
    let mut ports = |name: &str, range: Option<(u16, u16)>| match range {
        None => {}
        Some((low, high)) if low == high => all.push(format!("{name} == {low}")),
        Some((low, high)) => all.push(format!("{name} >= {low} && {name} <= {high}")),
    };
    ports("local_port", rule.local_port);
    ports("remote_port", rule.remote_port);
    all.extend(rule.port.map(|(low, _)| format!("(local_port == {low} || remote_port == {low})")));
    all.extend(rule.incoming.map(|it| if it { "incoming" } else { "!incoming" }.to_string()));
    for (end, list) in [("local", &rule.local), ("remote", &rule.remote)] {
        if let [prefix] = &list[..] {
            all.push(inside(end, *prefix));
        }
    }
    all
}

/// Compares word by word, and the last words only if the prefix reaches them.
fn inside(end: &str, prefix: Prefix) -> String {
    let mask = |length: u32| u32::MAX.checked_shl(32 - length).unwrap_or(0);
    let word = |name: String, value: u32, length: u32| match length {
        32 => format!("{name} == 0x{value:x}"),
        _ => format!("({name} & 0x{:x}) == 0x{value:x}", mask(length)),
    };
    if prefix.is_v4 {
        return format!("v4 && {}", word(format!("{end}4"), prefix.bits as u32, prefix.length));
    }
    let mut text = "!v4".to_string();
    for at in 0..prefix.length.div_ceil(32) {
        let value = (prefix.bits >> (96 - 32 * at)) as u32;
        let length = (prefix.length - 32 * at).min(32);
        let _ = write!(text, " && {}", word(format!("{end}{at}"), value, length));
    }
    text
}
