//! libFuzzer on the rules text: it gives C or errors, and never a panic. Notes and errors can be shown.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use set_rto_compiler::compile_with;
use set_rto_compiler::diag::{Source, render, render_notes};

/// Files with addresses, ports and devices. Some cannot be read.
fn load(name: &str) -> Result<String, String> {
    match name.len() % 4 {
        0 => Err("no such file".into()),
        1 => Ok("10.0.0.0/8 a\n44.1/16 b\n\n2001:db8::/32\n".into()),
        2 => Ok("\u{feff}80 # one\r\n8000-8999\r\n".into()),
        _ => Ok("ax0,1\n\u{0};\u{e9}\n10.0.0.1/8 #\n# \n".into()),
    }
}

fuzz_target!(|text: &str| -> Corpus {
    let source = Source { name: "rules.toml", text };
    match compile_with(&source, "0.0.0", &load) {
        Ok(policy) => {
            assert!(policy.c.ends_with('\n'), "cut off");
            let _ = render_notes(&source, &policy.notes);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            let shown = render(&source, &errors);
            assert!(shown.starts_with("error: ") && shown.ends_with('\n'), "{shown}");
        }
    }
    Corpus::Keep
});
