//! Which lists of interface patterns a device's name can match at the same time.

use super::{LONGEST, Set};
use crate::rule::Pattern;
use std::collections::HashSet;

/// More ways to match than this are not told apart.
const MOST: usize = 200_000;

/// The kinds of names: the names of a kind match the same lists.
#[derive(Debug)]
pub struct Names {
    count: usize,
    /// For each list, the kinds that match it.
    matching: Vec<Set>,
}

impl Names {
    /// Finds all kinds; None if there are too many, as dozens of overlapping globs make.
    #[must_use]
    pub fn new(lists: &[Vec<Pattern>]) -> Option<Self> {
        let patterns = || lists.iter().flatten();
        let mut globs: Vec<&str> =
            patterns().filter(|it| it.is_glob()).map(|it| it.0.as_str()).collect();
        globs.sort_unstable();
        globs.dedup();
        let mut names: Vec<&str> =
            patterns().filter(|it| !it.is_glob()).map(|it| it.0.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        // A kind for each name that is spelled out, then one for each way in which other names match globs.
        let of_name = |name: &&str| -> Vec<bool> {
            globs.iter().map(|glob| matches(glob, name.as_bytes())).collect()
        };
        let mut kinds: Vec<Vec<bool>> = names.iter().map(of_name).collect();
        kinds.extend(combinations(&globs)?);
        let matching = lists.iter().map(|list| {
            let mut found = Vec::new();
            for Pattern(text) in list {
                if let Ok(at) = names.binary_search(&text.as_str()) {
                    found.push((at as u128, at as u128));
                } else if let Ok(glob) = globs.binary_search(&text.as_str()) {
                    let of_glob = kinds.iter().enumerate().filter(|(_, kind)| kind[glob]);
                    found.extend(of_glob.map(|(at, _)| (at as u128, at as u128)));
                }
            }
            Set::from_ranges(found)
        });
        Some(Self { matching: matching.collect(), count: kinds.len() })
    }

    /// All kinds.
    #[must_use]
    pub fn domain(&self) -> Set {
        Set::range(0, self.count as u128 - 1)
    }

    /// The kinds that match the n-th list (`value` 1) or don't (0).
    #[must_use]
    pub fn kinds(&self, list: usize, value: u128) -> Set {
        match value {
            1 => self.matching[list].clone(),
            _ => self.domain().minus(&self.matching[list]),
        }
    }
}

/// True if the name matches the pattern.
#[must_use]
pub fn matches(pattern: &str, name: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    let places = name.iter().fold(skip(1, pattern), |places, &byte| step(places, pattern, byte));
    places >> pattern.len() & 1 == 1
}

/// The ways in which names match the globs, by running these side by side over all names at once.
fn combinations(globs: &[&str]) -> Option<HashSet<Vec<bool>>> {
    let globs: Vec<_> = globs.iter().map(|glob| glob.as_bytes()).collect();
    let mut letters: Vec<u8> = globs.concat();
    letters.sort_unstable();
    letters.dedup();
    letters.retain(|letter| !b"*?".contains(letter));
    // One that no glob has stands for all of those.
    letters.push(0);
    let mut kinds = HashSet::from([vec![false; globs.len()]]);
    let mut seen = HashSet::new();
    let mut states = vec![globs.iter().map(|glob| skip(1, glob)).collect::<Vec<_>>()];
    for _ in 0..LONGEST {
        let mut next = Vec::new();
        for state in &states {
            for &letter in &letters {
                let pairs = state.iter().zip(&globs);
                let moved: Vec<_> =
                    pairs.map(|(places, glob)| step(*places, glob, letter)).collect();
                if seen.insert(moved.clone()) {
                    let matched = moved.iter().zip(&globs);
                    kinds.insert(
                        matched.map(|(places, glob)| places >> glob.len() & 1 == 1).collect(),
                    );
                    next.push(moved);
                }
            }
            if seen.len() * globs.len().max(1) > MOST {
                return None;
            }
        }
        states = next;
    }
    Some(kinds)
}

/// From places that stand before a `*` one may go on without a character.
pub(super) fn skip(mut places: u32, pattern: &[u8]) -> u32 {
    for (at, _) in pattern.iter().enumerate().filter(|(_, byte)| **byte == b'*') {
        places |= (places >> at & 1) << (at + 1);
    }
    places
}

/// Where a letter leads to.
pub(super) fn step(places: u32, pattern: &[u8], letter: u8) -> u32 {
    let mut next = 0;
    for (at, &byte) in pattern.iter().enumerate() {
        let here = places >> at & 1;
        match byte {
            b'*' => next |= here << at,
            _ if byte == b'?' || byte == letter => next |= here << (at + 1),
            _ => {}
        }
    }
    skip(next, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lists: &[&[&str]]) -> Names {
        let list = |texts: &&[&str]| texts.iter().map(|text| Pattern((*text).into())).collect();
        Names::new(&lists.iter().map(list).collect::<Vec<_>>()).expect("few kinds")
    }

    #[test]
    fn globs_match() {
        for (pattern, yes, no) in [
            ("ax*", vec!["ax", "ax0", "ax-long-name"], vec!["a", "bax0", ""]),
            ("*0", vec!["0", "ax0", "00"], vec!["ax01", ""]),
            ("w?an*", vec!["wlan0", "wwan"], vec!["wan0", "wlaa"]),
            ("*a*b*", vec!["ab", "xaxbx"], vec!["ba", "a"]),
            ("*", vec!["", "x"], vec![]),
        ] {
            assert!(yes.iter().all(|name| matches(pattern, name.as_bytes())), "{pattern}");
            assert!(!no.iter().any(|name| matches(pattern, name.as_bytes())), "{pattern}");
        }
    }

    #[test]
    fn containment_and_disjointness_are_seen() {
        let all = names(&[&["ax*"], &["ax0"], &["axe*"], &["tnc?"], &["*0"]]);
        let of = |list| all.kinds(list, 1);
        assert!(of(1).is_within(&of(0)) && of(2).is_within(&of(0)), "ax0, axe* are ax*");
        assert!(of(1).is_within(&of(4)) && !of(2).is_within(&of(4)), "ax0 is *0");
        assert!(of(3).is_disjoint(&of(0)), "tnc? is no ax*");
        assert!(!of(3).is_disjoint(&of(4)), "tnc0 is *0");
        assert!(!all.domain().minus(&of(0).or(&of(3)).or(&of(4))).is_empty(), "others exist");
    }

    #[test]
    fn many_names_are_no_trouble() {
        let texts: Vec<_> = (0..5000).map(|i| format!("if{i}")).collect();
        let lists: Vec<_> = texts.iter().map(|text| vec![Pattern(text.clone())]).collect();
        let all = Names::new(&lists).expect("one kind each");
        assert!(all.kinds(7, 1).is_disjoint(&all.kinds(8, 1)));
    }
}
