//! sock_ops programs of other owners, a few instructions each.

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

/// The behaviour of another program on the hook.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Neighbour {
    /// Answers TIMEOUT_INIT with that many jiffies and ignores other operations.
    Answers(u32),
    /// Answers nothing.
    Silent,
    /// Answers every other operation with -1 and ignores TIMEOUT_INIT.
    AnswersOthers,
}

impl Neighbour {
    /// Loads the program under a name of at most 15 characters.
    pub(crate) fn load(self, name: &str) -> Result<OwnedFd> {
        bpf::load(bpf::SOCK_OPS, name, &self.instructions())
    }

    /// Attaches the program in addition to others, without a link. It stays until the cgroup is removed.
    pub(crate) fn attach(self, name: &str, cgroup: &Path) -> Result<()> {
        bpf::attach(bpf::SOCK_OPS, cgroup, &self.load(name)?, bpf::ALLOW_MULTI)
    }

    /// Attaches the program by a link. It stays while the link is open.
    pub(crate) fn link(self, name: &str, cgroup: &Path) -> Result<OwnedFd> {
        bpf::link(bpf::SOCK_OPS, cgroup, &self.load(name)?)
    }

    fn instructions(self) -> Vec<u64> {
        // The context stays in its own register: some kernels corrupt a field that is loaded over it.
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

/// Counts the calls of TIMEOUT_INIT for a full socket, and how many of them an earlier program had answered.
pub(crate) struct Replies {
    asked: OwnedFd,
    answered: OwnedFd,
}

impl Replies {
    /// Attaches it after the programs that are already there.
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

    /// The number of calls, and how many of them had been answered.
    pub(crate) fn read(&self) -> Result<(u64, u64)> {
        Ok((bpf::read(&self.asked)?, bpf::read(&self.answered)?))
    }
}

/// `return 1` for a packet hook.
pub(crate) fn pass_all() -> [u64; 2] {
    [mov(0, 1), EXIT]
}
