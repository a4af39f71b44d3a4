//! Compares the default rule's program with a handwritten one.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::state::attached;
use crate::harness::asm::EXIT;
use crate::harness::asm::LOCAL_PORT;
use crate::harness::asm::OP;
use crate::harness::asm::REMOTE_PORT;
use crate::harness::asm::REPLY;
use crate::harness::asm::TIMEOUT_INIT;
use crate::harness::asm::TOTAL_RETRANS;
use crate::harness::asm::add_atomically;
use crate::harness::asm::load_map_value;
use crate::harness::asm::load_word;
use crate::harness::asm::mov;
use crate::harness::asm::skip_if_equal;
use crate::harness::asm::skip_unless_equal;
use crate::harness::asm::store_word;
use crate::harness::bpf;
use crate::harness::note;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    port_rule_is_as_short_as_by_hand: 60,
}

/// The output of clang -O2 for
///
///     if (ctx->op == BPF_SOCK_OPS_TIMEOUT_INIT &&
///         (ctx->local_port == 12345 || ctx->remote_port == bpf_htonl(12345)))
///             ctx->reply = 20 * HZ;
///     return 1;
///
/// and, with a counter, for `if (!ctx->total_retrans) __sync_fetch_and_add(&hits, 1);` after the reply.
fn by_hand(counter: Option<&OwnedFd>) -> Vec<u64> {
    let counting = counter.map_or_else(Vec::new, |map| {
        let address = load_map_value(2, map);
        [
            &[load_word(2, 1, TOTAL_RETRANS), skip_unless_equal(2, 0, 4), mov(1, 1)][..],
            &address,
            &[add_atomically(2, 1)],
        ]
        .concat()
    });
    let rest = counting.len() as i16;
    let network_order = 12345_u32.to_be().cast_signed();
    let deciding = [
        load_word(2, 1, OP),
        skip_unless_equal(2, TIMEOUT_INIT, 6 + rest),
        load_word(2, 1, LOCAL_PORT),
        skip_if_equal(2, 12345, 2),
        load_word(2, 1, REMOTE_PORT),
        skip_unless_equal(2, network_order, 2 + rest),
        mov(2, 5000),
        store_word(1, REPLY, 2),
    ];
    [&deciding[..], &counting, &[mov(0, 1), EXIT]].concat()
}

/// Counts instructions after the kernel's translation, since those are what runs.
fn port_rule_is_as_short_as_by_hand() -> Result<()> {
    SetRto::of("port")?.ok(&["install"])?;
    let id = attached()?.first().copied().context("nothing is attached")?;
    let ours = bpf::translated(&bpf::program(id)?)?;
    let translated =
        |counter| bpf::translated(&bpf::load(bpf::SOCK_OPS, "by_hand", &by_hand(counter))?);
    let plain = translated(None)?;
    let counting = translated(Some(&bpf::map()?))?;
    note(format!("{ours} instructions; by hand {counting}, {plain} without counting"));
    ensure!(plain > 0 && counting > plain, "the counts are of something else");
    // Our program loads the timer from its constants because it depends on HZ. That takes a two-instruction address
    // and a load instead of a move.
    ensure!(ours <= counting + 2, "{ours} instructions, by hand {counting}");
    Ok(())
}
