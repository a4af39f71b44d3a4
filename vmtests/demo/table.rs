//! Formats the results as numbers.

use crate::outcome::{Call, Policy, Scenes};

/// The channels in the order of the table: bits per second, and packets lost in percent.
const LINKS: [(u64, u64); 4] = [(1200, 0), (300, 0), (1200, 10), (300, 10)];

/// Formats two tables: the radio and the datacentre.
pub(crate) fn markdown(scenes: &[Scenes]) -> String {
    let mut out = String::from(
        "| channel | Linux | no rule | rule at the caller | rule at both ends |\n|---|---|---|---|---|\n",
    );
    for (rate, loss) in LINKS {
        for scenes in scenes {
            let cells = [Policy::Nobody, Policy::Caller, Policy::Both]
                .map(|policy| cell(&scenes.of(rate, loss, policy)));
            let lost = if loss == 0 { String::new() } else { format!(", {loss} % lost") };
            let version = scenes.version();
            out.push_str(&format!("| {rate} bit/s{lost} | {version} | {} |\n", cells.join(" | ")));
        }
    }
    out.push_str("\n| datacentre, first SYN lost | no rule | `rto = \"10ms\"` |\n|---|---|---|\n");
    for scenes in scenes {
        let cells = [Policy::Nobody, Policy::Both].map(|policy| {
            let times = scenes.connects.iter().filter(|it| it.0 == policy);
            show(times.map(|it| it.1 * 1e3), |time| format!("{time:.0} ms"))
        });
        out.push_str(&format!("| Linux {} | {} |\n", scenes.version(), cells.join(" | ")));
    }
    learned(scenes, &mut out);
    out
}

/// The connections that are shown of each series.
const SHOWN: [(&str, usize); 3] = [("1st connection", 0), ("2nd", 1), ("10th", 9)];

/// Formats what changes from one connection to the next with a learned timer.
fn learned(scenes: &[Scenes], out: &mut String) {
    let names = SHOWN.map(|(name, _)| name).join(" | ");
    out.push_str(&format!("\n| learned timer | Linux | {names} |\n|---|---|---|---|---|\n"));
    let mut channels: Vec<&str> = Vec::new();
    for (channel, _) in scenes.iter().flat_map(|scenes| &scenes.learned) {
        if !channels.contains(&channel.as_str()) {
            channels.push(channel);
        }
    }
    // The series run side by side.
    channels.sort_by_key(|channel| !channel.ends_with("bit/s"));
    for channel in channels {
        for scenes in scenes {
            let calls: Vec<&Call> =
                scenes.learned.iter().filter(|(of, _)| of == channel).map(|(_, it)| it).collect();
            let cells = SHOWN.map(|(_, at)| calls.get(at).map_or("–".into(), |it| cell(&[*it])));
            out.push_str(&format!(
                "| {channel} | {} | {} |\n",
                scenes.version(),
                cells.join(" | ")
            ));
        }
    }
    for scenes in scenes {
        let times = scenes.connects.iter().filter(|(policy, _)| *policy == Policy::Learned);
        let times: Vec<f64> = times.map(|(_, seconds)| seconds * 1e3).collect();
        let cells =
            SHOWN.map(|(_, at)| times.get(at).map_or("–".into(), |time| format!("{time:.0} ms")));
        let version = scenes.version();
        out.push_str(&format!(
            "| datacentre, first SYN lost | {version} | {} |\n",
            cells.join(" | ")
        ));
    }
}

fn cell(calls: &[&Call]) -> String {
    let syns = show(calls.iter().map(|it| it.syns as f64), |number| format!("{number:.0}"));
    let bytes = show(calls.iter().map(|it| it.bytes as f64), |number| format!("{number:.0}"));
    let first = show(calls.iter().filter_map(|it| it.first_byte), |time| format!("{time:.1} s"));
    let never = match calls.iter().filter(|it| it.first_byte.is_none()).count() {
        0 => String::new(),
        count => format!(", {count} of {} never", calls.len()),
    };
    let s = if syns == "1" { "" } else { "s" };
    format!("{syns} SYN{s}, {first}{never}, {bytes} bytes")
}

/// The median, and the maximum if it exceeds the median by more than a tenth.
fn show(numbers: impl Iterator<Item = f64>, write: impl Fn(f64) -> String) -> String {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len().saturating_sub(1) / 2);
    let (Some(median), Some(most)) = (middle, sorted.last()) else { return "–".into() };
    match *most > *median * 1.1 {
        true => format!("{} (at most {})", write(*median), write(*most)),
        false => write(*median),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(numbers: &[f64]) -> String {
        show(numbers.iter().copied(), |number| format!("{number:.0}"))
    }

    #[test]
    fn medians_and_the_most() {
        assert_eq!(shown(&[]), "–");
        assert_eq!(shown(&[7.0, 7.2]), "7");
        assert_eq!(shown(&[9.0, 1.0, 3.0]), "3 (at most 9)");
        // The median is a measured value, not an average of two.
        assert_eq!(shown(&[1.0, 2.0, 4.0, 9.0]), "2 (at most 9)");
    }

    #[test]
    fn a_row_for_each_channel_and_kernel() {
        let call = |policy, first_byte| Call {
            policy,
            rate: 300,
            loss: 0,
            first_byte,
            syns: 7,
            bytes: 900,
            packets: vec![],
        };
        let calls = vec![call(Policy::Nobody, Some(40.0)), call(Policy::Nobody, None)];
        let connects = vec![(Policy::Nobody, 1.02), (Policy::Both, 0.013), (Policy::Learned, 1.03)];
        let learned = vec![("7.5 s".to_owned(), call(Policy::Learned, Some(16.0)))];
        let table = markdown(&[Scenes { origin: "linux 6.1.2".into(), calls, connects, learned }]);
        let row = "| 300 bit/s | 6.1 | 7 SYNs, 40.0 s, 1 of 2 never, 900 bytes | ";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| Linux 6.1 | 1020 ms | 13 ms |"), "{table}");
        assert!(table.contains("| 7.5 s | 6.1 | 7 SYNs, 16.0 s, 900 bytes | – | – |"), "{table}");
        assert!(
            table.contains("| datacentre, first SYN lost | 6.1 | 1030 ms | – | – |"),
            "{table}"
        );
    }
}
