//! Checks the JSON Schema of rules files with an independent library. Every file that compiles must be valid, and the
//! schema must reject the mistakes in `bad/` that a single value shows.

use expect_test::expect_file;
use jsonschema::Validator;
use serde_json::{Map, Value};
use set_rto_compiler::compile;
use set_rto_compiler::diag::Source;
use set_rto_compiler::schema::schema;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The shipped file, which the first line of the root's rules.toml names.
const SHIPPED: &str = "../scripts/packaging/rules.schema.json";

/// Files of `bad/` whose mistakes a schema cannot detect, with the reason.
const BEYOND: &[(&str, &str)] = &[
    ("contradictions", "conditions that exclude each other"),
    ("duplicate-name", "two rules"),
    ("functions", "the file of [code]"),
    ("incoming", "a setting and a condition that exclude each other"),
    ("longest", "several conditions and rules"),
    ("never-longest", "several rules"),
    ("other-fields", "inside expressions"),
    ("socket", "inside expressions"),
    ("tested-and-set", "two rules"),
    ("together", "several rules"),
    ("types", "inside expressions"),
    ("unreachable", "two rules"),
];

/// They are not TOML, so an editor never reaches the schema.
const NOT_TOML: &[&str] = &["curly-quotes", "single-brackets-twice", "syntax", "unquoted"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    jsonschema::meta::validate(&schema).expect("the schema is one of its draft");
    jsonschema::draft7::new(&schema).expect("a schema")
}

/// The value that an editor passes to the schema.
fn json(text: &str) -> Option<Value> {
    fn of(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Null, Value::from),
            DeValue::Float(number) => {
                number.as_str().parse::<f64>().map_or(Value::Null, Value::from)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Array(items) => items.iter().map(|item| of(item.get_ref())).collect(),
            DeValue::Table(table) => table_of(table),
        }
    }
    fn table_of(table: &DeTable<'_>) -> Value {
        let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            (key.to_string(), of(value.get_ref()))
        };
        Value::Object(table.iter().map(entry).collect::<Map<_, _>>())
    }
    DeTable::parse(text).ok().map(|table| table_of(table.get_ref()))
}

fn files(folder: &str) -> Vec<(String, String)> {
    let entries = here(folder).read_dir().expect("a folder of rules files");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

#[test]
fn shipped_as_the_tables_are() {
    expect_file![here(SHIPPED)].assert_eq(&schema());
}

#[test]
fn fits_every_file_that_compiles() {
    let validator = validator();
    let folders =
        ["examples", "tests/good", "tests/entangled", "../vmtests/live/rules", "../vmtests/demo"];
    let images =
        ["board", "container", "debian", "openwrt"].map(|it| format!("../vmtests/images/{it}"));
    let folders = folders.iter().map(ToString::to_string).chain(images);
    let root = ("rules".to_owned(), std::fs::read_to_string(here("../rules.toml")).expect("rules"));
    for (name, text) in folders.flat_map(|folder| files(&folder)).chain([root]) {
        let value = json(&text).expect("TOML");
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn finds_the_mistakes_that_one_value_shows() {
    let validator = validator();
    let mut fitting = Vec::new();
    for (name, text) in files("tests/bad") {
        match json(&text) {
            Some(value) if validator.is_valid(&value) => fitting.push(name),
            Some(_) => {}
            None => assert!(NOT_TOML.contains(&&*name), "{name} is not TOML"),
        }
    }
    assert_eq!(fitting, BEYOND.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

/// Each rule of `bad/settings.toml` and similar files has its own mistake. The schema must detect each one separately.
#[test]
fn agrees_with_the_compiler_value_by_value() {
    let validator = validator();
    let long = |length: usize| format!("\"{}\"", "a".repeat(length));
    for (line, fits) in [
        ("rto = \"20s\"", true),
        ("rto = \"1.5s\"", true),
        ("rto = \"1s500ms\"", true),
        ("rto = 20", false),
        ("use = \"kernel\"", true),
        ("use = \"default\"", false),
        ("nodelay = true", true),
        ("max_segment = 87", false),
        ("remote = { file = 1 }\necn = true", false),
        ("remote = { column = 1 }\necn = true", false),
        ("rto = \"20\"", false),
        ("rto = \"20sec\"", false),
        ("rto = \"-1s\"", false),
        ("syn_retries = 0", false),
        ("syn_retries = 127", true),
        ("syn_retries = 128", false),
        ("syn_retries = \"3\"", false),
        ("ecn = false", false),
        ("ecn = true", true),
        ("tos = 252", true),
        ("tos = 253", false),
        ("tos = 256", false),
        (&format!("congestion = {}", long(15)), true),
        (&format!("congestion = {}", long(16)), false),
        ("colour = 1", false),
        ("port = 65535\necn = true", true),
        ("port = 65536\necn = true", false),
        ("port = [22, \"8000-8999\"]\necn = true", true),
        ("port = []\necn = true", false),
        ("port = \"http\"\necn = true", false),
        ("family = \"ipv5\"\necn = true", false),
        ("interface = [\"ax*\", \"eth0.5\"]\necn = true", true),
        ("interface = \"eth[01]\"\necn = true", false),
        ("remote = \"2001:db8::/32\"\necn = true", true),
        ("remote = \"host.example\"\necn = true", false),
        ("when = \"\"\necn = true", false),
        ("port = 80", false),
    ] {
        let text = format!("[[rule]]\nname = \"a\"\n{line}\n");
        let compiles = compile(&Source { name: "rules.toml", text: &text }, "0").is_ok();
        assert_eq!(compiles, fits, "the compiler: {line}");
        assert_eq!(validator.is_valid(&json(&text).expect("TOML")), fits, "the schema: {line}");
    }
}
