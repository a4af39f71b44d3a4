//! How a kernel lays out the structures behind a socket, as far as rules about interfaces look at them: as the
//! program declares them, or made up, with pointers of 4 or 8 bytes, and then told by BTF.

use super::btf::Kernel;
use super::random::Random;
use set_rto_compiler::btf::types::{Btf, Kind};

/// A structure: its bytes, and where its fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Struct<const N: usize> {
    size: u32,
    at: [u32; N],
}

impl<const N: usize> Struct<N> {
    /// Fields of so many bytes in any order, with others between.
    fn made_up(random: &mut Random, fields: [u32; N], align: u32) -> Self {
        let mut order: Vec<usize> = (0..N).collect();
        for place in (1..N).rev() {
            order.swap(place, random.below(place + 1));
        }
        let (mut size, mut at) = (0_u32, [0; N]);
        for field in order {
            // A number is aligned to 4 bytes, what is or has a pointer as that is.
            let align = if fields[field] < align { fields[field] } else { align };
            size = (size + 4 * random.below(5) as u32).next_multiple_of(align);
            at[field] = size;
            size += fields[field];
        }
        size = (size + 4 * random.below(3) as u32).next_multiple_of(align);
        Self { size, at }
    }
}

/// A kernel's structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a pointer.
    pub(crate) pointer: u32,
    ns_common: Struct<1>,
    net: Struct<2>,
    hlist_node: Struct<1>,
    net_device: Struct<3>,
    dst_entry: Struct<1>,
    possible_net: Struct<1>,
    sock_common: Struct<2>,
    sock: Struct<2>,
    sk_buff: Struct<1>,
    bpf_sock_ops_kern: Struct<2>,
}

impl Layout {
    /// As `emit/route.h` declares them, for programs that nobody relocates.
    pub(crate) const DECLARED: Self = Self {
        pointer: 8,
        ns_common: Struct { size: 4, at: [0] },
        net: Struct { size: 16, at: [0, 8] },
        hlist_node: Struct { size: 8, at: [0] },
        net_device: Struct { size: 32, at: [0, 16, 24] },
        dst_entry: Struct { size: 8, at: [0] },
        possible_net: Struct { size: 8, at: [0] },
        sock_common: Struct { size: 16, at: [0, 8] },
        sock: Struct { size: 24, at: [0, 16] },
        sk_buff: Struct { size: 4, at: [0] },
        bpf_sock_ops_kern: Struct { size: 16, at: [0, 8] },
    };

    /// Any that a kernel with pointers of so many bytes could have.
    pub(crate) fn made_up(random: &mut Random, pointer: u32) -> Self {
        let mut some = |fields| Struct::made_up(random, fields, pointer);
        let (ns_common, hlist_node, possible_net) = (some([4]), some([pointer]), some([pointer]));
        let (dst_entry, sk_buff) = (some([pointer]), some([4]));
        let mut some = |fields| Struct::made_up(random, fields, pointer);
        let sock_common = some([possible_net.size, 4]);
        Self {
            pointer,
            ns_common,
            net: some([ns_common.size, pointer]),
            hlist_node,
            net_device: Struct::made_up(random, [16, 4, hlist_node.size], pointer),
            dst_entry,
            possible_net,
            sock_common,
            sock: Struct::made_up(random, [sock_common.size, pointer], pointer),
            sk_buff,
            bpf_sock_ops_kern: Struct::made_up(random, [pointer; 2], pointer),
        }
    }

    pub(crate) fn is_narrow(&self) -> bool {
        self.pointer == 4
    }

    /// Sizes: `struct net`, `net_device`, `dst_entry`, `sock`, `sk_buff`, `bpf_sock_ops_kern`.
    pub(crate) fn sizes(&self) -> [u32; 6] {
        let Self { net, net_device, dst_entry, sock, sk_buff, bpf_sock_ops_kern, .. } = self;
        [net.size, net_device.size, dst_entry.size, sock.size, sk_buff.size, bpf_sock_ops_kern.size]
    }

    /// `net->ns.inum`, `net->dev_index_head`
    pub(crate) fn net(&self) -> [u64; 2] {
        [self.net.at[0] + self.ns_common.at[0], self.net.at[1]].map(u64::from)
    }

    /// `dev->name`, `dev->ifindex`, `dev->index_hlist`
    pub(crate) fn device(&self) -> [u64; 3] {
        self.net_device.at.map(u64::from)
    }

    /// `node->next`
    pub(crate) fn next(&self) -> u64 {
        self.hlist_node.at[0].into()
    }

    /// `dst->dev`
    pub(crate) fn dst(&self) -> u64 {
        self.dst_entry.at[0].into()
    }

    /// `sk->__sk_common.skc_net.net`, `sk->__sk_common.skc_bound_dev_if`, `sk->sk_dst_cache`
    pub(crate) fn sock(&self) -> [u64; 3] {
        let [common, cache] = self.sock.at;
        let [net, bound] = self.sock_common.at;
        [common + net + self.possible_net.at[0], common + bound, cache].map(u64::from)
    }

    /// `skb->skb_iif`
    pub(crate) fn packet(&self) -> u64 {
        self.sk_buff.at[0].into()
    }

    /// `ctx->sk`, `ctx->skb`
    pub(crate) fn context(&self) -> [u64; 2] {
        self.bpf_sock_ops_kern.at.map(u64::from)
    }

    /// The same with one field elsewhere, by so many bytes, and one after the other; its name.
    pub(crate) fn moved(&self, by: u32) -> Vec<(&'static str, Self)> {
        type Place = fn(&mut Layout) -> &mut u32;
        let places: [(&str, Place); 16] = [
            ("inum", |it| &mut it.ns_common.at[0]),
            ("ns", |it| &mut it.net.at[0]),
            ("dev_index_head", |it| &mut it.net.at[1]),
            ("next", |it| &mut it.hlist_node.at[0]),
            ("name", |it| &mut it.net_device.at[0]),
            ("ifindex", |it| &mut it.net_device.at[1]),
            ("index_hlist", |it| &mut it.net_device.at[2]),
            ("dst.dev", |it| &mut it.dst_entry.at[0]),
            ("possible_net_t.net", |it| &mut it.possible_net.at[0]),
            ("skc_net", |it| &mut it.sock_common.at[0]),
            ("skc_bound_dev_if", |it| &mut it.sock_common.at[1]),
            ("__sk_common", |it| &mut it.sock.at[0]),
            ("sk_dst_cache", |it| &mut it.sock.at[1]),
            ("skb_iif", |it| &mut it.sk_buff.at[0]),
            ("ops.sk", |it| &mut it.bpf_sock_ops_kern.at[0]),
            ("ops.skb", |it| &mut it.bpf_sock_ops_kern.at[1]),
        ];
        let moved = |(name, place): (&'static str, Place)| {
            let mut layout = *self;
            *place(&mut layout) += by;
            (name, layout)
        };
        places.into_iter().map(moved).collect()
    }

    /// What such a kernel's BTF says.
    pub(crate) fn btf(&self, big_endian: bool) -> Btf {
        let mut kernel = Kernel::new(self.pointer);
        let int = kernel.add("int", Kind::Int(4, 0x0100_0020));
        let char = kernel.add("char", Kind::Int(1, 0x0100_0008));
        let name = kernel.add("", Kind::Array(char, int, 16));
        let pointer = kernel.add("", Kind::Pointer(0));
        let Self { net, net_device, sock_common, sock, bpf_sock_ops_kern: ops, .. } = self;
        let common = self.ns_common;
        let common = kernel.structure("ns_common", common.size, &[("inum", int, common.at[0])]);
        let fields = [("ns", common, net.at[0]), ("dev_index_head", pointer, net.at[1])];
        kernel.structure("net", net.size, &fields);
        kernel.structure("hlist_head", self.pointer, &[("first", pointer, 0)]);
        let node = self.hlist_node;
        let node = kernel.structure("hlist_node", node.size, &[("next", pointer, node.at[0])]);
        let [at, index, link] = net_device.at;
        let fields = [("name", name, at), ("ifindex", int, index), ("index_hlist", node, link)];
        kernel.structure("net_device", net_device.size, &fields);
        let dst = self.dst_entry;
        kernel.structure("dst_entry", dst.size, &[("dev", pointer, dst.at[0])]);
        let holder = self.possible_net;
        let holder = kernel.structure("", holder.size, &[("net", pointer, holder.at[0])]);
        let holder = kernel.add("possible_net_t", Kind::Alias(8, holder));
        let fields =
            [("skc_net", holder, sock_common.at[0]), ("skc_bound_dev_if", int, sock_common.at[1])];
        let common = kernel.structure("sock_common", sock_common.size, &fields);
        let fields = [("__sk_common", common, sock.at[0]), ("sk_dst_cache", pointer, sock.at[1])];
        kernel.structure("sock", sock.size, &fields);
        kernel.structure("sk_buff", self.sk_buff.size, &[("skb_iif", int, self.sk_buff.at[0])]);
        let fields = [("sk", pointer, ops.at[0]), ("skb", pointer, ops.at[1])];
        kernel.structure("bpf_sock_ops_kern", ops.size, &fields);
        let raw = kernel.raw(big_endian);
        Btf::read(&raw).expect("what was written")
    }
}
