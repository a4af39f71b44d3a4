//! The last touch: tables in sections that every kernel takes. A section becomes a map of one value, which has at
//! most 4 MiB before Linux 5.19 (`KMALLOC_MAX_SIZE`, `array_map_alloc_check()` in kernel/bpf/arraymap.c).

/// Where all tables are written to.
const TABLES: &str = "SEC(\".rodata.tables\")";

/// Bytes of a section.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// Before each array there may be some bytes for its alignment.
const ALIGNMENT: usize = 8;

/// Moves tables behind the first 4 MiB to sections of their own.
pub(super) fn spread(c: String) -> String {
    let total: usize = c.lines().filter_map(bytes).sum();
    if total <= MOST_BYTES {
        return c;
    }
    let (mut section, mut filled) = (0, 0);
    let mut out = String::with_capacity(c.len() + 100);
    for line in c.lines() {
        if let Some(bytes) = bytes(line) {
            filled += bytes;
            if filled > MOST_BYTES {
                (section, filled) = (section + 1, bytes);
            }
            match section {
                0 => out.push_str(line),
                _ => out
                    .push_str(&line.replace(TABLES, &format!("SEC(\".rodata.tables{section}\")"))),
            }
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// What an array takes, if the line begins one: `const KIND NAME[COUNT] SEC(…) = {`.
fn bytes(line: &str) -> Option<usize> {
    let declared = line.strip_prefix("const ")?.split_once(TABLES)?.0;
    let (declared, count) = declared.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    let (kind, _) = declared.rsplit_once(' ')?;
    let each = match kind {
        "u8" => 1,
        "u16" => 2,
        "u32" => 4,
        "u64" | "struct start32" => 8,
        "struct start64" => 16,
        "struct node" => 32,
        // No structure is larger.
        _ => 128,
    };
    Some(count.parse::<usize>().ok()? * each + ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_goes_on_in_the_next_section() {
        let array = |kind: &str, name: &str, count: usize| {
            format!("const {kind} {name}[{count}] SEC(\".rodata.tables\") = {{\n1,\n}};\n")
        };
        let few = array("u16", "a", 65_536) + &array("struct node", "b", 131_000 - 5_000);
        assert_eq!(spread(few.clone()), few);
        let many = few + &array("u32", "c", 65_536) + &array("struct start64", "d", 200_000);
        let many = spread(many + &array("u8", "e", 1));
        for (name, section) in [("a", ""), ("b", ""), ("c", "1"), ("d", "1"), ("e", "1")] {
            let line = many.lines().find(|line| line.contains(&format!(" {name}["))).expect("it");
            assert!(line.contains(&format!("SEC(\".rodata.tables{section}\")")), "{line}");
        }
    }
}
