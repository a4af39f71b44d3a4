//! Draws the results: the packets on a channel over time.

use crate::outcome::{Call, Packet, Policy, Scenes};
use anyhow::{Context as _, Result};

/// The channel in the picture: the slower lossless one.
const RATE: u64 = 300;

/// Sizes in pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 58.0;
const LANE: f64 = 78.0;
const ROW: f64 = 22.0;

/// Colours for a light and for a dark page.
const STYLE: &str = "\
.page{fill:#fff}.text{fill:#1f2328}.soft{fill:#59636e}.row{fill:#eff2f5}.grid{stroke:#d1d9e0}\
.once{fill:#0969da}.again{fill:#bc4c00}.in{fill:#fff}.done{stroke:#1a7f37}.said{fill:#1a7f37}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#f0f6fc}.soft{fill:#9198a1}.row{fill:#1c2129}\
.grid{stroke:#3d444d}.once{fill:#1f6feb}.again{fill:#bd561d}.done{stroke:#3fb950}.said{fill:#3fb950}}";

/// One lane of the picture.
struct Lane<'a> {
    name: String,
    call: &'a Call,
}

/// Draws every kernel without a rule, and the last kernel with a fixed and with a learned timer.
///
/// # Errors
/// A kind of call is missing.
pub(crate) fn svg(scenes: &[Scenes]) -> Result<String> {
    let mut lanes = Vec::new();
    for it in scenes {
        lanes.push(lane(it, Policy::Nobody)?);
    }
    let last = scenes.last().context("no kernels")?;
    lanes.push(lane(last, Policy::Caller)?);
    lanes.push(lane(last, Policy::Both)?);
    lanes.push(lane(last, Policy::Learned)?);
    Ok(draw(&lanes))
}

fn lane(scenes: &Scenes, policy: Policy) -> Result<Lane<'_>> {
    let with = match policy {
        Policy::Nobody => "no rule",
        Policy::Caller => "rto = 20 s at the calling station",
        Policy::Both => "rto = 20 s at both stations",
        Policy::Learned => "learned rto at both stations, 10th connection",
    };
    let mut calls = scenes.of(RATE, 0, policy);
    calls.extend(scenes.learned.iter().map(|(_, call)| call).filter(|call| call.rate == RATE));
    calls.retain(|call| call.policy == policy);
    let call = calls.into_iter().find(|call| !call.packets.is_empty());
    let call = call.with_context(|| format!("no call with {with}"))?;
    Ok(Lane { name: format!("Linux {}, {with}", scenes.version()), call })
}

fn draw(lanes: &[Lane<'_>]) -> String {
    let ends = lanes.iter().flat_map(|lane| &lane.call.packets).map(|packet| packet.until);
    let seconds = (ends.fold(5.0, f64::max) / 5.0).ceil() * 5.0;
    let scale = (WIDTH - LEFT - RIGHT) / seconds;
    let x = |time: f64| LEFT + time * scale;
    let bottom = TOP + LANE * lanes.len() as f64;
    let height = bottom + 56.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\" font-size=\"12\">\n\
         <title>What a half-duplex radio channel of {RATE} bit/s carries until a connection is up</title>\n\
         <style>{STYLE}</style>\n"
    );
    let mut put = |text: String| out.push_str(&(text + "\n"));
    put(format!("<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>"));
    put(label(LEFT, 22.0, "text", "start", &format!(
        "One connection over a half-duplex channel, {RATE} bit/s, 7.5 s from SYN to SYN-ACK when idle"
    )).replace("<text", "<text font-size=\"14\" font-weight=\"600\""));
    for step in 0..=(seconds / 5.0) as u32 {
        let at = x(f64::from(step) * 5.0);
        put(format!(
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>",
            TOP - 20.0
        ));
        put(label(at, bottom + 16.0, "soft", "middle", &format!("{} s", step * 5)));
    }
    for (index, lane) in lanes.iter().enumerate() {
        draw_lane(&mut put, lane, TOP + LANE * index as f64, x);
    }
    draw_legend(&mut put, bottom + 40.0);
    out.push_str("</svg>\n");
    out
}

fn draw_lane(put: &mut impl FnMut(String), lane: &Lane<'_>, top: f64, x: impl Fn(f64) -> f64) {
    let Lane { name, call } = lane;
    let rows = top + 6.0;
    let first = call.first_byte.map_or("never".into(), |after| format!("after {after:.1} s"));
    let s = if call.syns == 1 { "" } else { "s" };
    let facts = format!(
        "{name}: {} SYN{s}, {} bytes in all, first byte of data {first}",
        call.syns, call.bytes
    );
    put(label(LEFT, top, "text", "start", &facts));
    for (row, who) in [(0.0, "caller"), (1.0, "answerer")] {
        let y = rows + row * (ROW + 2.0);
        let width = WIDTH - LEFT - RIGHT;
        put(format!(
            "<rect class=\"row\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width}\" height=\"{ROW}\"/>"
        ));
        put(label(LEFT - 8.0, y + 15.0, "soft", "end", who));
    }
    for (packet, again) in call.packets.iter().zip(again(&call.packets)) {
        let class = if again { "again" } else { "once" };
        let y = rows + if packet.by_caller { 0.0 } else { ROW + 2.0 };
        let (from, to) = (x(packet.sent), x(packet.until));
        let Packet { kind, sent, until, .. } = packet;
        put(format!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" rx=\"2\">\
             <title>{kind}, {sent:.1} to {until:.1} s</title></rect>",
            from + 0.5,
            y + 1.0,
            to - from - 1.0,
            ROW - 2.0
        ));
        let short = short(kind);
        if to - from > 9.0 * short.len() as f64 {
            put(label(f64::midpoint(from, to), y + 15.0, "in", "middle", short));
        }
    }
    if let Some(after) = call.first_byte {
        let (at, end) = (x(after), rows + 2.0 * ROW + 2.0);
        put(format!(
            "<line class=\"done\" stroke-width=\"2.5\" x1=\"{at:.1}\" y1=\"{rows:.1}\" x2=\"{at:.1}\" y2=\"{end:.1}\"/>"
        ));
    }
}

fn draw_legend(put: &mut impl FnMut(String), y: f64) {
    let mut at = LEFT;
    for (class, text, width) in [
        ("once", "needed: S SYN, SA SYN-ACK, A ACK, D data", 290.0),
        ("again", "sent again, or in answer to what was sent again", 320.0),
        ("said", "first byte of data", 0.0),
    ] {
        let (wide, high) = if class == "said" { (3.0, 16.0) } else { (14.0, 12.0) };
        put(format!(
            "<rect class=\"{class}\" x=\"{at}\" y=\"{:.1}\" width=\"{wide}\" height=\"{high}\" rx=\"1\"/>",
            y - high + 2.0
        ));
        put(label(at + wide + 6.0, y, "soft", "start", text));
        at += width;
    }
}

fn label(x: f64, y: f64, class: &str, anchor: &str, text: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    )
}

fn short(kind: &str) -> &'static str {
    match kind {
        "SYN" => "S",
        "SYN-ACK" => "SA",
        "data" => "D",
        _ => "A",
    }
}

/// Packets that an exchange without retransmissions would not contain: all but the first of a kind.
fn again(packets: &[Packet]) -> Vec<bool> {
    let is_known = |at: usize| packets[..at].iter().any(|it| it.kind == packets[at].kind);
    (0..packets.len()).map(is_known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: &str) -> Packet {
        Packet { kind: kind.into(), by_caller: kind != "data", sent: 0.0, until: 1.0 }
    }

    #[test]
    fn copies_are_told_from_what_is_needed() {
        let kinds = ["SYN", "SYN", "SYN-ACK", "ACK", "SYN-ACK", "ACK", "data", "ACK of data"];
        let packets = kinds.map(packet);
        let expected = [false, true, false, false, true, true, false, false];
        assert_eq!(again(&packets), expected);
    }

    #[test]
    fn a_box_for_each_packet() {
        let call = Call {
            policy: Policy::Nobody,
            rate: RATE,
            loss: 0,
            first_byte: Some(16.0),
            syns: 2,
            bytes: 300,
            packets: vec![packet("SYN"), packet("SYN"), packet("SYN-ACK")],
        };
        let text = draw(&[Lane { name: "x".into(), call: &call }]);
        assert_eq!(text.matches("<rect class=\"again\"").count(), 2, "one, and the legend's");
        assert_eq!(text.matches("<title>SYN, ").count(), 2);
        assert!(text.contains("2 SYNs, 300 bytes") && text.ends_with("</svg>\n"));
    }
}
