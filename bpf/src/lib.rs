//! The rule compiler of set-rto: the text of a `rules.toml` goes in, the C of a sock_ops BPF program
//! comes out. It does no I/O. [`compile`] runs the passes, each of which has a file of its own:
//!
//! | pass | from → to |
//! |---|---|
//! | [`parse`](mod@parse) | text → [`parse::Document`]: TOML with a span on every key and value |
//! | [`check`](mod@check) | [`parse::Document`] → [`rule`]: typed rules, every mistake of the file reported at once |
//! | [`reach`](mod@reach) | [`rule`] → [`reach::Regions`]: which connections each rule decides, at least one |
//! | [`lint`](mod@lint) | [`reach::Regions`] → errors for useless settings, and notes |
//! | [`plan`](mod@plan) | [`reach::Regions`] → [`plan::Plan`]: every choice about the program |
//! | [`emit`](mod@emit) | [`plan::Plan`] → C |
//!
//! [`field`] lists what a rule can test, [`setting`] what it can set. In addition, [`constants`](mod@constants) writes
//! the rules for the loader, and [`structures`] lists the kernel structures that the program reads.

pub mod check;
pub mod constants;
pub mod diag;
pub mod duration;
pub mod emit;
pub mod explain;
pub mod field;
pub mod files;
pub mod limits;
pub mod lint;
pub mod parse;
pub mod place;
pub mod plan;
pub mod reach;
pub mod release;
pub mod rule;
pub mod schema;
pub mod setting;
pub mod space;
pub mod structures;

use diag::{Diagnostic, Source};
use files::{Files, Load};
use rule::Rule;
use setting::Column;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A rules file, compiled.
#[derive(Debug)]
pub struct Policy {
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// What they set besides `rto`. The program's counters of failures are in this order.
    pub columns: Vec<Column>,
    /// Notes on what is allowed but probably a mistake.
    pub notes: Vec<Diagnostic>,
    /// SHA-256 of the file's text and of its list files in the order of their first use, 64 lower-case hex digits: what
    /// `cat rules.toml nets.txt | sha256sum` prints.
    pub digest: String,
    /// The text that the digest covers: the rules file and the files that it names, one after the other.
    pub source: String,
    /// The BPF program: one self-contained C file for `clang -target bpf`.
    pub c: String,
    /// True if a rule tests a device.
    pub asks_for_interface: bool,
    /// True if a rule tests the device of incoming connections.
    pub needs_arrivals: bool,
    /// All names and patterns of devices, sorted.
    pub interfaces: Vec<String>,
    /// See [`plan::Plan::needs_perfmon`].
    pub needs_perfmon: bool,
    /// What is counted and measured.
    pub evidence: plan::Evidence,
    /// How many hosts are remembered; None if no rule learns.
    pub hosts: Option<u32>,
}

impl Policy {
    /// The options for clang: the instruction set that every kernel from 5.10 on supports, and what the target machine
    /// requires. `arch` is the value of `CARGO_CFG_TARGET_ARCH`.
    #[must_use]
    pub fn clang_flags(big_endian: bool, arch: &str) -> Vec<String> {
        // Clang would put jump tables into .rodata, among the program's metadata.
        let mut flags = vec!["-mcpu=v2", "-fno-jump-tables", "-Wall", "-Werror", "-Wno-trigraphs"];
        if big_endian {
            // `-target bpf`, which libbpf-cargo appends, means the byte order of the building machine.
            flags.extend(["-Xclang", "-triple", "-Xclang", "bpfeb"]);
        }
        if arch.starts_with("mips") {
            flags.push("-DMIPS_SOCKET_OPTIONS");
        }
        flags.into_iter().map(String::from).collect()
    }
}

/// Compiles a rules file that names no list files. See [`compile_with`].
///
/// # Errors
/// The same, and a list file.
pub fn compile(source: &Source<'_>, version: &str) -> Result<Policy, Vec<Diagnostic>> {
    compile_with(source, version, &|_| Err("there are no files here".into()))
}

/// Compiles a rules file. `version` is the compiler's own, for the banner and the program's metadata. `load` reads the
/// list files that the rules name.
///
/// # Errors
/// Every mistake that can be found, in the order of the file.
pub fn compile_with(
    source: &Source<'_>,
    version: &str,
    load: &Load<'_>,
) -> Result<Policy, Vec<Diagnostic>> {
    let document = parse::parse(source)?;
    let check::Checked { rules, options, mut mistakes, mut notes, files, code } =
        check::check(source, &document, Files::new(load));
    let files = files.all();
    // Valid rules are checked for reachability whatever is wrong with the others.
    let reached = reach::reach(&rules);
    if !mistakes.is_empty() {
        mistakes.extend(reached.err().unwrap_or_default());
        mistakes.sort_by_key(|mistake| mistake.span.start);
        return Err(mistakes);
    }
    let regions = reached?;
    notes.extend(lint::lint(&rules, &regions, &options)?);
    notes.sort_by_key(|note| note.span.start);
    let plan = plan::plan(&rules, &regions, &options, code).map_err(|error| vec![error])?;
    let texts = files.iter().map(|file| file.text.as_str());
    let whole: String = [source.text].into_iter().chain(texts).collect();
    let digest = digest(&whole);
    let c = emit::emit(&plan, &emit::Banner { version, digest: &digest });
    let lists = regions.interfaces.lists.iter().flatten();
    Ok(Policy {
        columns: Column::all(rules.iter().map(|rule| &rule.settings)),
        rules,
        notes,
        digest,
        source: whole,
        c,
        asks_for_interface: plan.names.is_some(),
        needs_arrivals: plan.needs_arrivals,
        interfaces: lists.map(|it| it.0.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
        needs_perfmon: plan.needs_perfmon(),
        evidence: plan.evidence,
        hosts: plan.hosts,
    })
}

/// SHA-256 of a text, 64 lower-case hex digits.
#[must_use]
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
