//! What became of the cases, and what was expected of them.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::cases::{Case, Selection};

/// What the suite thinks of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Of the messages: OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED, FAILED and some more.
    pub(crate) behavior: String,
    /// Of how the connection ended: OK, INFORMATIONAL, UNCLEAN, WRONG CODE and some more.
    pub(crate) behavior_close: String,
}

/// The verdicts of a run, or those expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results(BTreeMap<Case, Verdict>);

/// The verdicts of a run, and the files that say more.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) results: Results,
    /// The names of the suite's own reports.
    pub(crate) files: BTreeMap<Case, String>,
}

/// A case that went otherwise than expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deviation {
    pub(crate) case: Case,
    /// None if the case is not known.
    pub(crate) expected: Option<Verdict>,
    /// None if the case did not run.
    pub(crate) found: Option<Verdict>,
}

/// All selected cases whose verdict is not the expected one, be it worse or better, and cases that
/// are missing on either side.
pub(crate) fn compare(
    found: &Results,
    expected: &Results,
    selection: &Selection,
) -> Vec<Deviation> {
    let missing = expected.cases().filter(|case| !found.0.contains_key(case));
    let missing = missing.filter(|case| selection.contains(case));
    let mut cases: Vec<&Case> = found.cases().chain(missing).collect();
    cases.sort();
    let deviations = cases.into_iter().map(|case| Deviation {
        case: case.clone(),
        expected: expected.0.get(case).cloned(),
        found: found.0.get(case).cloned(),
    });
    deviations.filter(|d| d.expected != d.found).collect()
}

impl Results {
    /// Reads an object of cases: `"1.1.1": {"behavior": "OK", "behaviorClose": "OK"}`.
    pub(crate) fn parse(text: &str) -> Result<Results, String> {
        let cases: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        Results::of(&cases)
    }

    fn of(cases: &Map<String, Value>) -> Result<Results, String> {
        let mut results = Results::default();
        for (case, value) in cases {
            let part = |name: &str| match value.get(name).and_then(Value::as_str) {
                Some(text) => Ok(text.to_owned()),
                None => Err(format!("case {case} has no {name}")),
            };
            let verdict = Verdict {
                behavior: part("behavior")?,
                behavior_close: part("behaviorClose")?,
            };
            results.0.insert(case.parse()?, verdict);
        }
        Ok(results)
    }

    /// What [`parse`](Self::parse) reads, with a line for each case.
    pub(crate) fn to_json(&self) -> String {
        let lines = self.0.iter().map(|(case, verdict)| {
            let [behavior, close] =
                [&verdict.behavior, &verdict.behavior_close].map(|text| Value::from(text.as_str()));
            format!(r#"  "{case}": {{"behavior": {behavior}, "behaviorClose": {close}}}"#)
        });
        format!("{{\n{}\n}}\n", lines.collect::<Vec<_>>().join(",\n"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Case, &Verdict)> {
        self.0.iter()
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &Case> + Clone {
        self.0.keys()
    }

    /// Each behaviour that there was, the good ones first, with how many cases showed it.
    pub(crate) fn counts(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = GOOD.map(|behavior| (behavior, 0)).to_vec();
        for verdict in self.0.values() {
            match counts
                .iter_mut()
                .find(|(name, _)| *name == verdict.behavior)
            {
                Some((_, count)) => *count += 1,
                None => counts.push((&verdict.behavior, 1)),
            }
        }
        counts.retain(|(_, count)| *count > 0);
        counts
    }

    /// As `298 OK, 3 INFORMATIONAL, 216 UNIMPLEMENTED of 517`.
    pub(crate) fn summary(&self) -> String {
        let counts = self
            .counts()
            .into_iter()
            .map(|(name, count)| format!("{count} {name}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        format!("{counts} of {}", self.0.len())
    }
}

/// The behaviours that no server has to be ashamed of.
const GOOD: [&str; 3] = ["OK", "INFORMATIONAL", "UNIMPLEMENTED"];

impl Run {
    /// Reads the suite's `index.json`, which is about one server.
    pub(crate) fn parse(text: &str) -> Result<Run, String> {
        let agents: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut agents = agents.values();
        let (Some(Value::Object(cases)), None) = (agents.next(), agents.next()) else {
            return Err("this is not about one server".to_owned());
        };
        let results = Results::of(cases)?;
        let mut files = BTreeMap::new();
        for (case, value) in cases {
            if let Some(file) = value.get("reportfile").and_then(Value::as_str) {
                files.insert(case.parse()?, file.to_owned());
            }
        }
        Ok(Run { results, files })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            behavior,
            behavior_close,
        } = self;
        if behavior == behavior_close {
            f.write_str(behavior)
        } else {
            write!(f, "{behavior} (close: {behavior_close})")
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected ", self.case)?;
        match &self.expected {
            Some(verdict) => verdict.fmt(f)?,
            None => f.write_str("no such case")?,
        }
        match &self.found {
            Some(verdict) => write!(f, ", found {verdict}"),
            None => f.write_str(", but it did not run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = r#"{
  "1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
  "2.1": {"behavior": "OK", "behaviorClose": "OK"},
  "2.10": {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
  "12.1.1": {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}
}
"#;

    fn expected() -> Results {
        Results::parse(EXPECTED).unwrap()
    }

    /// The expected results, with one put in.
    fn found(case: &str, behavior: &str, behavior_close: &str) -> Results {
        let mut found = expected();
        let verdict = Verdict {
            behavior: behavior.to_owned(),
            behavior_close: behavior_close.to_owned(),
        };
        found.0.insert(case.parse().unwrap(), verdict);
        found
    }

    /// The deviations when all cases were to run.
    fn deviations(found: &Results) -> Vec<String> {
        let all = "*".parse().unwrap();
        let deviations = compare(found, &expected(), &all);
        deviations.iter().map(Deviation::to_string).collect()
    }

    #[test]
    fn results_are_written_as_they_are_read_in_order() {
        assert_eq!(expected().to_json(), EXPECTED);
    }

    #[test]
    fn nothing_deviates_from_itself() {
        assert_eq!(deviations(&expected()), [""; 0]);
    }

    #[test]
    fn worse_and_better_both_deviate() {
        assert_eq!(
            deviations(&found("2.1", "NON-STRICT", "OK")),
            ["2.1: expected OK, found NON-STRICT (close: OK)"]
        );
        assert_eq!(
            deviations(&found("12.1.1", "OK", "OK")),
            ["12.1.1: expected UNIMPLEMENTED (close: OK), found OK"]
        );
    }

    #[test]
    fn the_close_alone_deviates_too() {
        assert_eq!(
            deviations(&found("1.1.1", "OK", "UNCLEAN")),
            ["1.1.1: expected OK, found OK (close: UNCLEAN)"]
        );
    }

    #[test]
    fn a_case_that_did_not_run_deviates_if_it_was_selected() {
        let mut found = expected();
        found.0.remove(&"2.1".parse().unwrap());
        assert_eq!(deviations(&found), ["2.1: expected OK, but it did not run"]);
        let others = "1,2.10,12".parse().unwrap();
        assert_eq!(compare(&found, &expected(), &others), []);
    }

    #[test]
    fn a_case_that_is_not_known_deviates() {
        assert_eq!(
            deviations(&found("2.11", "OK", "OK")),
            ["2.11: expected no such case, found OK"]
        );
    }

    #[test]
    fn deviations_are_in_order() {
        let mut found = found("2.10", "FAILED", "OK");
        found.0.remove(&"2.1".parse().unwrap());
        found.0.remove(&"12.1.1".parse().unwrap());
        let deviations = compare(&found, &expected(), &"*".parse().unwrap());
        let cases: Vec<_> = deviations.iter().map(|d| d.case.to_string()).collect();
        assert_eq!(cases, ["2.1", "2.10", "12.1.1"]);
    }

    #[test]
    fn summary_counts_the_good_ones_first() {
        assert_eq!(
            found("1.1.1", "FAILED", "OK").summary(),
            "1 OK, 1 INFORMATIONAL, 1 UNIMPLEMENTED, 1 FAILED of 4"
        );
        assert_eq!(Results::default().summary(), " of 0");
    }

    #[test]
    fn a_run_is_the_one_server_of_an_index() {
        let index = format!(r#"{{"greenwood": {EXPECTED}}}"#);
        let run = Run::parse(&index.replace(
            r#""2.1": {"#,
            r#""2.1": {"duration": 2, "remoteCloseCode": null, "reportfile": "a_2_1.json", "#,
        ))
        .unwrap();
        assert_eq!(run.results, expected());
        assert_eq!(run.files[&"2.1".parse().unwrap()], "a_2_1.json");
        for index in [
            "",
            "{}",
            "[]",
            r#"{"a": {}, "b": {}}"#,
            r#"{"a": {"1.1": {}}}"#,
        ] {
            assert!(Run::parse(index).is_err(), "{index:?}");
        }
    }
}
