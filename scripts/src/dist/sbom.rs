//! The bill of materials, as CycloneDX 1.6 has it, and the notices that the licences ask for.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::cannot;
use super::parts::Part;

/// The bill of materials of the parts, the program first. `time` is as RFC 3339 has it.
pub(crate) fn bill(parts: &[Part], repository: &str, time: &str) -> Result<String> {
    let (program, libraries) = parts.split_first().context("nothing is linked")?;
    let mut main = component(program, "application");
    main["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    let components: Vec<_> = libraries.iter().map(|part| component(part, "library")).collect();
    let dependencies: Vec<_> =
        parts.iter().map(|part| json!({ "ref": part.id(), "dependsOn": part.needs })).collect();
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "timestamp": time, "component": main },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn component(part: &Part, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": part.id(),
        "name": part.name,
        "version": part.version,
        "licenses": [{ "expression": part.license }],
    });
    if let Some(purl) = &part.purl {
        component["purl"] = json!(purl);
    }
    component
}

/// The parts with their licences, and the texts of these, each once.
pub(crate) fn notices(parts: &[Part]) -> Result<String> {
    let mut all = "What is linked into set-rto, and the licence of each.\n\n".to_owned();
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    for part in parts {
        all += &format!("{}: {}\n", part.id(), part.license);
        for file in &part.texts {
            let text = fs::read_to_string(file).with_context(|| cannot("read", file))?;
            let text = text.trim().to_owned();
            match texts.iter_mut().find(|(known, _)| *known == text) {
                Some((_, of)) => of.push(part.id()),
                None => texts.push((text, vec![part.id()])),
            }
        }
    }
    for (text, of) in texts {
        all += &format!("\n{}\n\nOf {}:\n\n{text}\n", "-".repeat(80), of.join(", "));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn part(name: &str, needs: &[&str]) -> Part {
        let text = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../LICENSE-MIT");
        Part {
            name: name.to_owned(),
            version: "1".to_owned(),
            license: "MIT".to_owned(),
            purl: None,
            texts: vec![text],
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn everything_that_is_referred_to_is_there() {
        let parts = [part("program", &["a@1"]), part("a", &["b@1"]), part("b", &[])];
        let bill = bill(&parts, "https://example.org", "1970-01-01T00:00:00Z").unwrap();
        let bill: Value = serde_json::from_str(&bill).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "program");
        let components = bill["components"].as_array().unwrap();
        let known: Vec<_> = components.iter().map(|it| it["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(known, ["a@1", "b@1"]);
        for it in bill["dependencies"].as_array().unwrap() {
            for needed in it["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&needed.as_str().unwrap()), "{needed}");
            }
        }
    }

    #[test]
    fn each_text_once() {
        let notices = notices(&[part("a", &[]), part("b", &[])]).unwrap();
        assert_eq!(notices.matches("Permission is hereby granted").count(), 1);
        assert!(notices.contains("Of a@1, b@1:"), "{notices}");
    }
}
