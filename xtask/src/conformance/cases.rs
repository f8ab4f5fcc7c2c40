//! The suite's cases, and which of them are to run.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// The number of a case, as `6.4.1`, or of cases that start alike, as `6.4`; in numerical order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case(Vec<u32>);

/// Which cases to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    All,
    Groups(RangeInclusive<u32>),
    /// A case, or all whose numbers start like that.
    Under(Case),
}

impl Case {
    /// The first part of the number.
    pub(crate) fn group(&self) -> u32 {
        self.0.first().copied().unwrap_or_default()
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let parts: Result<_, _> = text.split('.').map(number).collect();
        match parts {
            Ok(parts) => Ok(Case(parts)),
            Err(_) => Err(format!("{text:?} is no case of the suite, such as 6.4.1")),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl Selection {
    /// Whether a case is to run.
    pub(crate) fn contains(&self, case: &Case) -> bool {
        self.0.iter().any(|item| item.contains(case))
    }

    /// The selection in the words of both runners: cases, and patterns with a `*` at the end.
    ///
    /// # Errors
    ///
    /// If a part of the selection has none of the known cases.
    pub(crate) fn patterns<'a>(
        &self,
        known: impl Iterator<Item = &'a Case> + Clone,
    ) -> Result<Vec<String>, String> {
        let mut patterns = Vec::new();
        for item in &self.0 {
            let mut hits = known.clone().filter(|case| item.contains(case)).peekable();
            if hits.peek().is_none() {
                return Err(format!("the suite has no case {item}"));
            }
            match item {
                Item::All => patterns.push("*".to_owned()),
                Item::Groups(_) => patterns.extend(hits.map(|case| format!("{}.*", case.group()))),
                Item::Under(case) if hits.any(|hit| hit == case) => patterns.push(case.to_string()),
                Item::Under(start) => patterns.push(format!("{start}.*")),
            }
        }
        patterns.dedup();
        Ok(patterns)
    }
}

impl FromStr for Selection {
    type Err = String;

    /// Parts between commas: `*`, a group, groups as `1-7`, cases that start alike as `6.4` or
    /// `6.4.*`, a case.
    fn from_str(text: &str) -> Result<Selection, String> {
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Selection)
    }
}

impl Item {
    fn contains(&self, case: &Case) -> bool {
        match self {
            Item::All => true,
            Item::Groups(groups) => groups.contains(&case.group()),
            Item::Under(start) => case.0.starts_with(&start.0),
        }
    }
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Item, String> {
        if text == "*" {
            return Ok(Item::All);
        }
        if let Some((first, last)) = text.split_once('-') {
            return match (number(first), number(last)) {
                (Ok(first), Ok(last)) if first <= last => Ok(Item::Groups(first..=last)),
                _ => Err(format!("{text:?} is no range of groups, such as 1-7")),
            };
        }
        text.strip_suffix(".*")
            .unwrap_or(text)
            .parse()
            .map(Item::Under)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::All => f.write_str("*"),
            Item::Groups(groups) => write!(f, "{}-{}", groups.start(), groups.end()),
            Item::Under(start) => start.fmt(f),
        }
    }
}

/// Digits and nothing else: `u32` would take a sign too.
fn number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(format!("{text:?} is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Case> {
        [
            "1.1.1", "1.1.10", "2.1", "2.10", "6.4.1", "6.4.2", "7.1.1", "10.1.1", "12.1.1",
        ]
        .map(|case| case.parse().unwrap())
        .to_vec()
    }

    fn selected(list: &str) -> String {
        let selection: Selection = list.parse().unwrap();
        let cases = known();
        let cases = cases.iter().filter(|case| selection.contains(case));
        cases.map(Case::to_string).collect::<Vec<_>>().join(" ")
    }

    fn patterns(list: &str) -> Result<String, String> {
        let selection: Selection = list.parse()?;
        Ok(selection.patterns(known().iter())?.join(" "))
    }

    #[test]
    fn cases_are_in_numerical_order() {
        let mut cases = known();
        cases.reverse();
        cases.sort();
        assert_eq!(cases, known());
    }

    #[test]
    fn a_list_has_groups_ranges_and_cases() {
        assert_eq!(selected("*").split(' ').count(), known().len());
        assert_eq!(selected("1"), "1.1.1 1.1.10");
        assert_eq!(selected("2-7"), "2.1 2.10 6.4.1 6.4.2 7.1.1");
        assert_eq!(selected("6.4,10"), "6.4.1 6.4.2 10.1.1");
        assert_eq!(selected("6.4.*"), "6.4.1 6.4.2");
        assert_eq!(selected("6.4.2,6-7"), "6.4.1 6.4.2 7.1.1");
    }

    #[test]
    fn a_number_does_not_select_longer_ones() {
        assert_eq!(selected("1.1.1"), "1.1.1");
        assert_eq!(selected("2.1"), "2.1");
    }

    #[test]
    fn runners_are_told_cases_and_patterns() {
        assert_eq!(patterns("*").unwrap(), "*");
        assert_eq!(patterns("1-7,10").unwrap(), "1.* 2.* 6.* 7.* 10.*");
        assert_eq!(patterns("6.4,2.1,1.1.10").unwrap(), "6.4.* 2.1 1.1.10");
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        assert_eq!(patterns("1,8").unwrap_err(), "the suite has no case 8");
        assert_eq!(
            patterns("20-30").unwrap_err(),
            "the suite has no case 20-30"
        );
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        for list in [
            "", "1,", "7-1", "1-", "-1", "+1", "a", "1..2", "1.*.2", "1 2", "**", "6.4-6.5",
        ] {
            assert!(list.parse::<Selection>().is_err(), "{list:?}");
        }
    }
}
