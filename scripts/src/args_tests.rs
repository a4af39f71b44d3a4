use super::*;

fn words(line: &str) -> Result<Task, EarlyExit> {
    parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn some(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

const TASKS: [&str; 15] = [
    "install", "remove", "build", "check", "show", "explain", "schema", "dist", "test", "fuzz",
    "mutants", "bench", "demo", "image", "matrix",
];

#[test]
fn each_task_has_a_help_of_its_own() {
    let all = words("").expect_err("help");
    assert!(all.status.is_ok());
    for form in ["--help", "-h", "help"] {
        assert_eq!(words(form).expect_err("help").output, all.output, "{form}");
    }
    for task in TASKS {
        assert!(all.output.lines().any(|line| line.trim_start().starts_with(task)), "{task}");
        let one = words(&format!("{task} --help")).expect_err("help");
        let head = format!("Usage: cargo xtask {task}");
        assert!(one.status.is_ok() && one.output.starts_with(&head), "{}", one.output);
    }
}

#[test]
fn the_compiler_by_itself() {
    let rules = || Some("a.toml".to_owned());
    assert_eq!(words("show"), Ok(Task::Show(Show { rules: None })));
    assert_eq!(words("show a.toml"), Ok(Task::Show(Show { rules: rules() })));
    assert_eq!(words("check a.toml"), Ok(Task::Check(Check { rules: rules() })));
    assert_eq!(words("fuzz"), Ok(Task::Fuzz(Fuzz { minutes: 10, text: false })));
    let text = words("fuzz --text --minutes 3");
    assert_eq!(text, Ok(Task::Fuzz(Fuzz { minutes: 3, text: true })));
    let files = some(&["bpf/src/duration.rs"]);
    assert_eq!(words("mutants bpf/src/duration.rs"), Ok(Task::Mutants(Mutants { files })));
    let line = ["explain", "a.toml", "outgoing ax0 10.0.0.1:1 -> 44.1.2.3:2"];
    let [_, rules, connection] = line.map(str::to_owned);
    assert_eq!(parse(&some(&line)), Ok(Task::Explain(Explain { rules, connection })));
    for line in [
        "show a b",
        "check a b",
        "explain a",
        "explain a b c",
        "fuzz --minutes 0",
        "fuzz --minutes x",
        "fuzz 3",
        "bench quick",
        "demo --quick",
        "bench --quick --readme",
        "schema a",
    ] {
        assert!(words(line).expect_err(line).status.is_err(), "{line}");
    }
}

#[test]
fn words_for_other_programs() {
    let of = |line: &str| match words(line) {
        Ok(Task::Matrix(matrix)) => matrix.words(),
        Ok(Task::Image(image)) => image.words(),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(of("matrix"), [""; 0]);
    assert_eq!(of("matrix debian-6.1 --core"), ["--core", "debian-6.1"]);
    let all = "matrix --list --core --readme --jobs 2 --test wire_ armv7 mips";
    assert_eq!(of(all), all.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(of("image --list"), ["--list"]);
    assert_eq!(of("image debian container"), ["debian", "container"]);
    let kernels = some(&["debian-6.1"]);
    let demo = Task::Demo(Demo { kernels, readme: true });
    assert_eq!(words("demo debian-6.1 --readme"), Ok(demo));
}

#[test]
fn defaults() {
    let install = Install { rules: None, prefix: PREFIX.into(), no_activate: false };
    assert_eq!(words("install"), Ok(Task::Install(install)));
    assert_eq!(words("remove"), Ok(Task::Remove(Remove { prefix: PREFIX.into() })));
    assert_eq!(words("build"), Ok(Task::Build(Build { rules: None, target: None })));
    assert_eq!(
        words("test"),
        Ok(Task::Test(Test { thorough: false, quick: false, filters: vec![] }))
    );
}

#[test]
fn several_targets() {
    let dist = |line: &str| match words(line) {
        Ok(Task::Dist(dist)) => dist,
        other => panic!("{line}: {other:?}"),
    };
    let plain = Dist {
        targets: vec![],
        rules: None,
        btf: vec![],
        revision: "1".into(),
        record: false,
        symbols: false,
        source: false,
        twice: false,
        if_possible: false,
    };
    assert_eq!(dist("dist"), plain);
    let line = "dist --target x86_64 --rules a.toml --btf b --target=mips --revision 2 --btf=c";
    let expected = Dist {
        targets: some(&["x86_64", "mips"]),
        rules: Some("a.toml".into()),
        btf: some(&["b", "c"]),
        revision: "2".into(),
        ..plain
    };
    assert_eq!(dist(line), expected);
    // Further equals signs belong to the value.
    assert_eq!(dist("dist --btf=6.1=b --btf 6.6=c").btf, ["6.1=b", "6.6=c"]);
    for line in ["dist x86_64", "dist --record --symbols", "dist --record --rules a.toml"] {
        assert!(words(line).is_err(), "{line}");
    }
    assert!(dist("dist --record --target mips").record);
    assert!(dist("dist --if-possible").if_possible);
    assert!(dist("dist --source").source && dist("dist --twice").twice);
}

#[test]
fn options_in_any_order_and_form() {
    let expected =
        Install { rules: Some("a.toml".into()), prefix: "/opt".into(), no_activate: true };
    for line in [
        "install --no-activate --prefix=/opt --rules a.toml",
        "install --rules=a.toml --prefix /opt --no-activate",
    ] {
        let Ok(Task::Install(install)) = words(line) else { panic!("{line}") };
        assert_eq!(install, expected);
    }
    let filters = some(&["syn", "ack"]);
    assert_eq!(
        words("test --thorough syn ack"),
        Ok(Task::Test(Test { thorough: true, quick: false, filters }))
    );
    assert!(words("test --quick --thorough").is_err());
    assert!(words("test --quick syn").is_err());
}

#[test]
fn refusals_name_the_word() {
    for (line, part) in [
        ("instal", "instal"),
        ("install extra", "extra"),
        ("install --target x", "--target"),
        ("install --rules", "--rules"),
        ("build --rules a --rules b", "duplicate"),
        ("remove --prefixes=x", "--prefixes"),
        ("test --nocapture", "--nocapture"),
    ] {
        let message = words(line).expect_err(line).output;
        assert!(message.contains(part), "{line}: {message}");
    }
}
