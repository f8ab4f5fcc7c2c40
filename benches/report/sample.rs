//! What one measurement gives: numbers with names, which are those of the JSON file.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample(BTreeMap<String, f64>);

impl Sample {
    pub(crate) fn with(mut self, name: &str, value: f64) -> Sample {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let pairs = self.0.iter();
        pairs
            .map(|(name, &value)| (name.clone(), value.into()))
            .collect()
    }

    /// Takes all numbers that are of a sample. What is null in JSON was not a number before.
    pub(crate) fn from_json(map: &Map<String, Value>) -> Sample {
        let numbers = map
            .iter()
            .filter(|(name, _)| name.as_str() != "round")
            .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        Sample(numbers.collect())
    }
}
