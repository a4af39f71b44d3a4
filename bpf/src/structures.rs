//! The members of kernel structures that the program reads. The C has a struct of their offsets under these names,
//! `finding.at`. The loader finds the paths in the kernel's BTF (src/offsets.rs).

use std::fmt::Write as _;

/// The name in the C, and the paths in the kernel: a structure and its members. Unnamed members are left out. Where
/// kernels differ, the first path that exists is read.
pub type Member = (&'static str, &'static [&'static str]);

/// All members that are read. They exist from Linux 5.10 on.
pub const MEMBERS: &[Member] = &[
    ("ops_sk", &["bpf_sock_ops_kern.sk"]),
    ("ops_skb", &["bpf_sock_ops_kern.skb"]),
    ("sk_net", &["sock.__sk_common.skc_net.net"]),
    ("sk_bound_dev_if", &["sock.__sk_common.skc_bound_dev_if"]),
    ("sk_dst_cache", &["sock.sk_dst_cache"]),
    ("skb_iif", &["sk_buff.skb_iif"]),
    ("dst_dev", &["dst_entry.dev", "dst_entry.dev_rcu"]),
    ("net_inum", &["net.ns.inum"]),
    ("net_dev_index_head", &["net.dev_index_head"]),
    ("node_next", &["hlist_node.next"]),
    ("dev_name", &["net_device.name"]),
    ("dev_ifindex", &["net_device.ifindex"]),
    ("dev_index_hlist", &["net_device.index_hlist"]),
];

/// The struct of their offsets, in C.
pub(crate) fn declaration() -> String {
    let mut out = String::from(
        "// Offsets in the running kernel's structures, in bytes. The loader fills them in.\n\
         struct offsets {\n",
    );
    for (name, paths) in MEMBERS {
        // Writing to a String can't fail.
        let _ = writeln!(out, "\tu32 {name}; // {}", paths[0]);
    }
    out + "};\n"
}
