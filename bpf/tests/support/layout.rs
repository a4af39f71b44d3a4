//! The layout of the kernel's structures behind a socket, as far as rules about interfaces read them. It is either the
//! simplest one or random, with pointers of 4 or 8 bytes. The module also gives the offsets that the loader finds in
//! the BTF of such a kernel.

use super::random::Random;
use set_rto_compiler::structures::MEMBERS;

/// A structure: its size and the offsets of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Struct<const N: usize> {
    size: u32,
    at: [u32; N],
}

impl<const N: usize> Struct<N> {
    /// Fields of these sizes in any order, with other fields between them.
    fn made_up(random: &mut Random, fields: [u32; N], align: u32) -> Self {
        let mut order: Vec<usize> = (0..N).collect();
        for place in (1..N).rev() {
            order.swap(place, random.below(place + 1));
        }
        let (mut size, mut at) = (0_u32, [0; N]);
        for field in order {
            // A number is aligned to 4 bytes. A pointer, or a structure that contains one, is aligned to the pointer
            // size.
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
    net: Struct<2>,
    net_device: Struct<3>,
    hlist_node: Struct<1>,
    dst_entry: Struct<1>,
    sock: Struct<3>,
    sk_buff: Struct<1>,
    bpf_sock_ops_kern: Struct<2>,
}

impl Layout {
    /// The fields follow one another.
    pub(crate) const SIMPLE: Self = Self {
        pointer: 8,
        net: Struct { size: 16, at: [0, 8] },
        net_device: Struct { size: 32, at: [0, 16, 24] },
        hlist_node: Struct { size: 8, at: [0] },
        dst_entry: Struct { size: 8, at: [0] },
        sock: Struct { size: 24, at: [0, 8, 16] },
        sk_buff: Struct { size: 4, at: [0] },
        bpf_sock_ops_kern: Struct { size: 16, at: [0, 8] },
    };

    /// Any layout that a kernel with pointers of this size could have.
    pub(crate) fn made_up(random: &mut Random, pointer: u32) -> Self {
        let hlist_node = Struct::made_up(random, [pointer], pointer);
        Self {
            pointer,
            net: Struct::made_up(random, [4, pointer], pointer),
            net_device: Struct::made_up(random, [16, 4, hlist_node.size], pointer),
            hlist_node,
            dst_entry: Struct::made_up(random, [pointer], pointer),
            sock: Struct::made_up(random, [pointer, 4, pointer], pointer),
            sk_buff: Struct::made_up(random, [4], pointer),
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
        self.net.at.map(u64::from)
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
        self.sock.at.map(u64::from)
    }

    /// `skb->skb_iif`
    pub(crate) fn packet(&self) -> u64 {
        self.sk_buff.at[0].into()
    }

    /// `ctx->sk`, `ctx->skb`
    pub(crate) fn context(&self) -> [u64; 2] {
        self.bpf_sock_ops_kern.at.map(u64::from)
    }

    /// The values that the loader fills in for such a kernel, in the order of [`MEMBERS`].
    pub(crate) fn offsets(&self) -> Vec<u32> {
        let place = |name| match name {
            "ops_sk" => self.bpf_sock_ops_kern.at[0],
            "ops_skb" => self.bpf_sock_ops_kern.at[1],
            "sk_net" => self.sock.at[0],
            "sk_bound_dev_if" => self.sock.at[1],
            "sk_dst_cache" => self.sock.at[2],
            "skb_iif" => self.sk_buff.at[0],
            "dst_dev" => self.dst_entry.at[0],
            "net_inum" => self.net.at[0],
            "net_dev_index_head" => self.net.at[1],
            "node_next" => self.hlist_node.at[0],
            "dev_name" => self.net_device.at[0],
            "dev_ifindex" => self.net_device.at[1],
            "dev_index_hlist" => self.net_device.at[2],
            other => panic!("no layout has {other}"),
        };
        MEMBERS.iter().map(|(name, _)| place(*name)).collect()
    }
}
