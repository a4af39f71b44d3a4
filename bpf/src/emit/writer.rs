//! Writes C: lines with their indentation, and arrays with their sections.

use std::fmt::{Arguments, LowerHex, Write as _};

/// A section becomes a map of one value, which has at most 4 MiB before Linux 5.19 (`KMALLOC_MAX_SIZE`,
/// `array_map_alloc_check()` in kernel/bpf/arraymap.c).
const MOST_BYTES: usize = 4 << 20;

/// Each array may be preceded by a few bytes of alignment.
const ALIGNMENT: usize = 16;

/// The text of a C file.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
    /// The number of bytes in each section of tables.
    sections: Vec<usize>,
}

impl Writer {
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Writes one line, or several lines of the same depth.
    pub(super) fn line(&mut self, text: Arguments<'_>) {
        (0..self.depth).for_each(|_| self.text.push('\t'));
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "{text}");
    }

    /// Writes an empty line and then the text unchanged.
    pub(super) fn header(&mut self, text: &str) {
        self.text.push('\n');
        self.text.push_str(text);
    }

    pub(super) fn empty(&mut self) {
        self.text.push('\n');
    }

    /// Writes a line and indents the following lines by one more tab.
    pub(super) fn open(&mut self, text: Arguments<'_>) {
        self.line(text);
        self.depth += 1;
    }

    /// Removes one tab and writes a line.
    pub(super) fn close(&mut self, text: &str) {
        self.depth -= 1;
        self.line(format_args!("{text}"));
    }

    /// Adds one tab.
    pub(super) fn open_more(&mut self) {
        self.depth += 1;
    }

    /// Removes one tab.
    pub(super) fn close_more(&mut self) {
        self.depth -= 1;
    }

    /// Writes the only line of a body without braces that [`Self::open`] began.
    pub(super) fn close_with(&mut self, text: Arguments<'_>) {
        self.line(text);
        self.depth -= 1;
    }

    /// Begins a function, whose body follows.
    pub(super) fn function(&mut self, declaration: Arguments<'_>) {
        self.empty();
        self.line(declaration);
        self.open(format_args!("{{"));
    }

    /// Writes an array, padded with zeros. A value takes `bytes` bytes, and `spell` formats it.
    pub(super) fn array<T>(
        &mut self,
        kind: &str,
        bytes: usize,
        name: &str,
        size: usize,
        values: &[T],
        spell: impl Fn(&mut String, &T),
    ) {
        let section = self.section(size * bytes + ALIGNMENT);
        self.empty();
        self.line(format_args!("const {kind} {name}[{size}] SEC(\"{section}\") = {{"));
        for row in values.chunks(16) {
            for value in row {
                spell(&mut self.text, value);
                self.text.push(',');
            }
            self.text.push('\n');
        }
        self.line(format_args!("}};"));
    }

    /// Writes an array of numbers with the narrowest type that fits.
    pub(super) fn numbers(&mut self, name: &str, size: usize, values: &[u32]) {
        let bytes = crate::plan::search::width(values);
        self.array(&format!("u{}", bytes * 8), bytes, name, size, values, number);
    }

    /// Writes an array of words.
    pub(super) fn words(&mut self, name: &str, size: usize, values: &[u64]) {
        self.array("u64", 8, name, size, values, hex);
    }

    /// Returns the first section with room for this many bytes.
    fn section(&mut self, bytes: usize) -> String {
        assert!(bytes <= MOST_BYTES, "an array of {bytes} bytes: the plan keeps them smaller");
        let place = self.sections.iter().position(|filled| filled + bytes <= MOST_BYTES);
        let place = place.unwrap_or_else(|| {
            self.sections.push(0);
            self.sections.len() - 1
        });
        self.sections[place] += bytes;
        match place {
            0 => ".rodata.tables".into(),
            more => format!(".rodata.tables{more}"),
        }
    }
}

/// A decimal number.
pub(super) fn number(out: &mut String, value: &u32) {
    // Writing to a String can't fail.
    let _ = write!(out, "{value}");
}

/// A hexadecimal number.
pub(super) fn hex<T: LowerHex>(out: &mut String, value: &T) {
    let _ = write!(out, "{value:#x}");
}
