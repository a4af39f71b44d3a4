//! Other people's sock_ops programs, a few instructions each.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Result;

use super::asm::EXIT;
use super::asm::OP;
use super::asm::REPLY;
use super::asm::TIMEOUT_INIT;
use super::asm::add_atomically;
use super::asm::load_map_value;
use super::asm::load_word;
use super::asm::mov;
use super::asm::mov_register;
use super::asm::skip_if_equal;
use super::asm::skip_unless_equal;
use super::asm::store_word;
use super::bpf;

/// What another program on the hook does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Neighbour {
    /// Answers TIMEOUT_INIT with that many jiffies; leaves the other questions alone.
    Answers(u32),
    /// Answers nothing.
    Silent,
    /// Answers every other question with -1 and leaves TIMEOUT_INIT alone.
    AnswersOthers,
}

impl Neighbour {
    /// Loads it under a name of at most 15 characters.
    pub(crate) fn load(self, name: &str) -> Result<OwnedFd> {
        bpf::load(bpf::SOCK_OPS, name, &self.instructions())
    }

    /// Loads it and attaches it in addition to others, without a link: it stays until the cgroup is removed.
    pub(crate) fn attach(self, name: &str, cgroup: &Path) -> Result<()> {
        bpf::attach(bpf::SOCK_OPS, cgroup, &self.load(name)?, bpf::ALLOW_MULTI)
    }

    /// Loads it and attaches it by a link: it stays while the link is open.
    pub(crate) fn link(self, name: &str, cgroup: &Path) -> Result<OwnedFd> {
        bpf::link(bpf::SOCK_OPS, cgroup, &self.load(name)?)
    }

    fn instructions(self) -> Vec<u64> {
        // The context stays in a register of its own: some kernels get a field wrong that is loaded
        // over it.
        let asks_op = [mov_register(6, 1), load_word(2, 6, OP)];
        let end = [mov(0, 1), EXIT];
        let answer = |jump: u64, reply: i32| {
            [&asks_op[..], &[jump, mov(3, reply), store_word(6, REPLY, 3)], &end].concat()
        };
        match self {
            Neighbour::Answers(jiffies) => {
                answer(skip_unless_equal(2, TIMEOUT_INIT, 2), jiffies.cast_signed())
            }
            Neighbour::AnswersOthers => answer(skip_if_equal(2, TIMEOUT_INIT, 2), -1),
            Neighbour::Silent => end.to_vec(),
        }
    }
}

/// Counts the calls of TIMEOUT_INIT for a full socket, and how often programs before it had answered.
pub(crate) struct Replies {
    asked: OwnedFd,
    answered: OwnedFd,
}

impl Replies {
    /// Attaches it behind those that are there.
    pub(crate) fn attach(cgroup: &Path) -> Result<Self> {
        let counts = Replies { asked: bpf::map()?, answered: bpf::map()? };
        let [first, second] = load_map_value(4, &counts.asked);
        let [third, fourth] = load_map_value(4, &counts.answered);
        let instructions = [
            mov_register(6, 1),
            mov(3, 1),
            load_word(2, 6, OP),
            skip_unless_equal(2, TIMEOUT_INIT, 8),
            first,
            second,
            add_atomically(4, 3),
            load_word(2, 6, REPLY),
            skip_if_equal(2, 0, 3),
            third,
            fourth,
            add_atomically(4, 3),
            mov(0, 1),
            EXIT,
        ];
        let program = bpf::load(bpf::SOCK_OPS, "replies", &instructions)?;
        bpf::attach(bpf::SOCK_OPS, cgroup, &program, bpf::ALLOW_MULTI)?;
        Ok(counts)
    }

    /// How often it was called and answered so far.
    pub(crate) fn read(&self) -> Result<(u64, u64)> {
        Ok((bpf::read(&self.asked)?, bpf::read(&self.answered)?))
    }
}

/// `return 1` for a hook on packets.
pub(crate) fn pass_all() -> [u64; 2] {
    [mov(0, 1), EXIT]
}
