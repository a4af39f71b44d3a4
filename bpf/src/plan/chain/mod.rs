//! Few rules: a chain of conditions in the order of the file, which a person can compare with it. Within a rule the
//! cheapest test comes first, so it fails early; fields that several rules test are loaded once. Lists that are too
//! long to compare item by item are looked up in tables. Their numbers have a bit for each list.

use super::Table;
mod condition;

pub use condition::{Check, Condition, is_prefix};

use crate::rule::{Formula, Pattern, Rule};
use crate::space::{Dimension, Interfaces, Normal, Set, Side, sweep};
use condition::{any, lower};
use std::collections::{BTreeMap, BTreeSet};

/// Rules of a chain, at most. A chain of 16 mixed rules (the bench's) executes 46 instructions, 63 at worst, and 1,700
/// are verified; of 20 it is 52, 69 and 7,600; of 32 it is 75, 99 and 41,500. Tables execute 127, 148 at worst. Of 20
/// rules about ports either executes 50.
const MOST_RULES: usize = 20;

/// The maximum number of comparisons in a chain: the verifier follows most paths through them.
const MOST_COMPARISONS: usize = 64;

/// Lists of one field, and lists of interfaces: bits of a number.
const MOST_LISTS: usize = 32;

/// Names and prefixes that are compared one by one: two to six instructions each.
const MOST_NAMES: usize = 8;

/// Fields that are kept in registers, of which there are ten.
const MOST_LOADS: usize = 7;

/// Comparisons that are worth repeating to avoid the search for the device, which takes 150 instructions.
const MOST_GUARDS: usize = 8;

/// The rules in order.
#[derive(Debug)]
pub struct Chain {
    /// Fields that several rules test. They are loaded first.
    pub loads: Vec<Load>,
    /// Long lists.
    pub lookups: Vec<Lists>,
    /// The rules.
    pub links: Vec<Link>,
    /// Where the device is found.
    pub device: Option<Device>,
    /// True where interfaces are compared by name, one by one.
    pub compares_names: bool,
}

/// A rule.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub rule: usize,
    /// When it matches.
    pub condition: Condition,
}

/// The place where the device is found.
#[derive(Debug)]
pub struct Device {
    /// Before this link.
    pub before: usize,
    /// If this does not match, no later rule tests the device.
    pub guard: Option<Condition>,
}

/// The long lists of one field.
#[derive(Debug)]
pub struct Lists {
    /// That field.
    pub dimension: Dimension,
    /// A bit for each list that has the value.
    pub table: Table,
    /// How many lists there are.
    pub count: usize,
    /// The first link that needs it, if several do.
    pub before: Option<usize>,
}

/// Fields of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// In host byte order.
    Port(Side),
    /// In network byte order.
    Address4(Side),
    /// In network byte order.
    Word6(Side, u32),
}

/// The chain; None if tables are better.
pub(super) fn chain(rules: &[Rule], interfaces: &Interfaces) -> Option<Chain> {
    if rules.len() > MOST_RULES || interfaces.lists.len() > MOST_LISTS {
        return None;
    }
    // Before anything is made of it.
    let formulas = rules.iter().flat_map(|rule| &rule.conditions).map(|it| &it.formula);
    if formulas.map(Formula::tests).sum::<usize>() > 2 * MOST_COMPARISONS {
        return None;
    }
    let mut lists = BTreeMap::new();
    let mut links = Vec::new();
    let mut comparisons = 0;
    for (rule, it) in rules.iter().enumerate() {
        let all = Formula::All(it.conditions.iter().map(|it| it.formula.clone()).collect());
        let condition = lower(&Normal::new(&all, false, interfaces), interfaces, &mut lists);
        comparisons += condition.comparisons();
        if comparisons > MOST_COMPARISONS {
            return None;
        }
        links.push(Link { rule, condition });
    }
    if lists.values().any(|lists: &Vec<Set>| lists.len() > MOST_LISTS) {
        return None;
    }
    let lookups = lists.iter().map(|(dimension, lists)| {
        let is_this = |check: &Check| matches!(check, Check::Listed(of, _) if of == dimension);
        let asks = |link: &Link| link.condition.any(&is_this);
        let mut asking = links.iter().enumerate().filter(|(_, link)| asks(link)).map(|(at, _)| at);
        let first = asking.next();
        let count = lists.len();
        Lists {
            dimension: *dimension,
            table: table(*dimension, lists),
            count,
            before: first.filter(|_| asking.next().is_some()),
        }
    });
    Some(Chain {
        loads: loads(&links),
        lookups: lookups.collect(),
        device: device(&links),
        compares_names: compares_names(&links, interfaces),
        links,
    })
}

/// A bit for each list.
fn table(dimension: Dimension, lists: &[Set]) -> Table {
    let ranges = lists
        .iter()
        .enumerate()
        .flat_map(|(list, set)| set.ranges().iter().map(move |(low, high)| (*low, *high, list)));
    let bits = |around: &BTreeSet<usize>, _| around.iter().fold(0, |bits, list| bits | 1 << list);
    let steps = sweep(ranges, dimension.last(), |_| 0, bits);
    Table::new(dimension, &steps)
}

fn compares_names(links: &[Link], interfaces: &Interfaces) -> bool {
    let mut lists = Vec::new();
    for link in links {
        link.condition.each(&mut |check| {
            if let Check::Interface(list) = check {
                lists.push(*list);
            }
        });
    }
    let patterns = || lists.iter().flat_map(|list| &interfaces.lists[*list]);
    let is_simple = |it: &Pattern| !it.0.contains('?') && !it.0.trim_end_matches('*').contains('*');
    patterns().count() <= MOST_NAMES && patterns().all(is_simple)
}

/// Fields that several rules test.
fn loads(links: &[Link]) -> Vec<Load> {
    let mut uses: BTreeMap<Load, usize> = BTreeMap::new();
    for link in links {
        let mut asked = Vec::new();
        link.condition.each(&mut |check| asked.extend(check.loads()));
        asked.sort_unstable();
        asked.dedup();
        asked.into_iter().for_each(|load| *uses.entry(load).or_default() += 1);
    }
    let mut shared: Vec<(usize, Load)> =
        uses.into_iter().filter(|it| it.1 > 1).map(|(load, count)| (count, load)).collect();
    shared.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let mut loads: Vec<Load> = shared.into_iter().map(|(_, load)| load).take(MOST_LOADS).collect();
    loads.sort_unstable();
    loads
}

fn device(links: &[Link]) -> Option<Device> {
    let is_interface = |check: &Check| matches!(check, Check::Interface(_) | Check::AnyInterface);
    let asks = |link: &&Link| link.condition.any(&is_interface);
    let before = links.iter().position(|link| asks(&link))?;
    let guard =
        any(links.iter().filter(asks).map(|link| link.condition.without(&is_interface)).collect());
    let is_short = guard != Condition::All(Vec::new()) && guard.comparisons() <= MOST_GUARDS;
    Some(Device { before, guard: is_short.then_some(guard) })
}
