//! All that has been measured: medians, paired ratios, and the JSON file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::sample::Sample;
use super::system::Machine;
use crate::Result;

/// The parts of the file that are not settings.
const MACHINE: &str = "machine";
const SERVERS: &str = "servers";
const SAMPLES: &str = "samples";

/// What can be measured, by a name in the file and on the command line.
pub(crate) trait Measurable: Copy + PartialEq + 'static {
    const ALL: &[Self];

    /// What the others are compared with: the first of this kind, or the first of all if there is
    /// none.
    const BASE: Kind;

    fn name(self) -> &'static str;

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|case| case.name() == name)
    }
}

/// What a server is to the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// Ours, with another number of hubs and cores.
    Hubs,
    Peer,
    /// Ours in the parked style.
    Parked,
    /// Sends bytes back as they are: no WebSocket.
    Floor,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Ours,
        Kind::Hubs,
        Kind::Peer,
        Kind::Parked,
        Kind::Floor,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ours => "ours",
            Kind::Hubs => "hubs",
            Kind::Peer => "peer",
            Kind::Parked => "parked",
            Kind::Floor => "floor",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Debug)]
struct Record<C> {
    case: C,
    round: usize,
    /// Its place among the names.
    server: usize,
    sample: Sample,
}

#[derive(Debug)]
pub(crate) struct Results<C> {
    pub(crate) machine: Machine,
    /// How it was measured, in words and numbers of the program.
    pub(crate) settings: Map<String, Value>,
    servers: Vec<(String, Kind)>,
    records: Vec<Record<C>>,
    failed: bool,
}

impl<C> Default for Results<C> {
    fn default() -> Self {
        Results {
            machine: Machine::default(),
            settings: Map::new(),
            servers: Vec::new(),
            records: Vec::new(),
            failed: false,
        }
    }
}

impl<C: Measurable> Results<C> {
    pub(crate) fn new(
        servers: Vec<(String, Kind)>,
        machine: Machine,
        settings: Map<String, Value>,
    ) -> Self {
        Results {
            machine,
            settings,
            servers,
            ..Results::default()
        }
    }

    pub(crate) fn add(&mut self, case: C, round: usize, server: usize, measured: Result<Sample>) {
        match measured {
            Ok(sample) => self.records.push(Record {
                case,
                round,
                server,
                sample,
            }),
            Err(error) => {
                self.failed = true;
                eprintln!("{}, {}: {error}", case.name(), self.name(server));
            }
        }
    }

    pub(crate) fn all_well(&self) -> bool {
        !self.failed
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = usize> + use<C> {
        0..self.servers.len()
    }

    pub(crate) fn name(&self, server: usize) -> &str {
        &self.servers[server].0
    }

    pub(crate) fn kind(&self, server: usize) -> Kind {
        self.servers[server].1
    }

    /// The server that the others are compared with.
    pub(crate) fn base(&self) -> usize {
        let mut kinds = self.servers.iter().map(|(_, kind)| kind);
        kinds.position(|&kind| kind == C::BASE).unwrap_or(0)
    }

    /// Whether anything is known of the case.
    pub(crate) fn has(&self, case: C) -> bool {
        self.records.iter().any(|record| record.case == case)
    }

    /// How often this server was measured in this case.
    pub(crate) fn rounds(&self, case: C, server: usize) -> usize {
        let of_it = |record: &&Record<C>| record.case == case && record.server == server;
        self.records.iter().filter(of_it).count()
    }

    /// The median over the rounds; not a number if there are none.
    pub(crate) fn median(&self, case: C, server: usize, name: &str) -> f64 {
        median(self.values(case, server, name).map(|(_, value)| value))
    }

    /// The median over the rounds' ratios to the base.
    pub(crate) fn ratio(&self, case: C, server: usize, name: &str) -> f64 {
        let base: Vec<_> = self.values(case, self.base(), name).collect();
        let ratios = self
            .values(case, server, name)
            .filter_map(|(round, value)| {
                let (_, base) = base.iter().find(|&&(other, _)| other == round)?;
                Some(value / base)
            });
        median(ratios)
    }

    /// Rounds and values.
    fn values<'a>(
        &'a self,
        case: C,
        server: usize,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, f64)> + use<'a, C> {
        self.records
            .iter()
            .filter(move |record| record.case == case && record.server == server)
            .filter_map(move |record| Some((record.round, record.sample.value(name)?)))
    }

    /// Every measurement.
    pub(crate) fn to_json(&self) -> Result<String> {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|(name, kind)| json!({"name": name, "kind": kind.name()}))
            .collect();
        let samples: Vec<_> = self
            .records
            .iter()
            .map(|record| {
                let mut value = record.sample.to_json();
                value.insert("case".to_owned(), record.case.name().into());
                value.insert("round".to_owned(), record.round.into());
                value.insert("server".to_owned(), self.name(record.server).into());
                value
            })
            .collect();
        let mut all = self.settings.clone();
        all.insert(MACHINE.to_owned(), self.machine.to_json());
        all.insert(SERVERS.to_owned(), servers.into());
        all.insert(SAMPLES.to_owned(), samples.into());
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }

    /// Those of all these files; a folder stands for the JSON files in it.
    pub(crate) fn from_files(paths: &[PathBuf]) -> Result<Results<C>> {
        let mut results = Results::default();
        for path in paths {
            for file in files(path)? {
                let text = fs::read_to_string(&file).map_err(Into::into);
                text.and_then(|text| results.read(&text))
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        if results.records.is_empty() {
            return Err("there are no results".into());
        }
        Ok(results)
    }

    /// Adds what [`to_json`](Results::to_json) wrote, save the cases that are known already: rounds
    /// of different runs can't be paired. Servers of the same name are one.
    pub(crate) fn read(&mut self, text: &str) -> Result<()> {
        let mut settings: Map<String, Value> = serde_json::from_str(text)?;
        let mut part = |name| settings.remove(name).unwrap_or_default();
        let (machine, servers, samples) = (part(MACHINE), part(SERVERS), part(SAMPLES));
        self.machine = Machine::from_json(&machine);
        self.settings.append(&mut settings);
        for server in servers.as_array().ok_or("no servers")? {
            let name = server["name"].as_str().ok_or("a server without a name")?;
            let kind = server["kind"].as_str().and_then(Kind::named);
            let kind = kind.ok_or_else(|| format!("{name} is of no kind"))?;
            if self.place(name).is_none() {
                self.servers.push((name.to_owned(), kind));
            }
        }
        let mut records = Vec::new();
        for value in samples.as_array().ok_or("no samples")? {
            let record = value.as_object().and_then(|map| self.record(map));
            records.push(record.ok_or_else(|| format!("not a sample: {value}"))?);
        }
        records.retain(|record| !self.has(record.case));
        self.records.append(&mut records);
        Ok(())
    }

    fn record(&self, map: &Map<String, Value>) -> Option<Record<C>> {
        let text = |name: &str| map.get(name)?.as_str();
        Some(Record {
            case: C::named(text("case")?)?,
            round: usize::try_from(map.get("round")?.as_u64()?).ok()?,
            server: self.place(text("server")?)?,
            sample: Sample::from_json(map),
        })
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|(other, _)| other == name)
    }
}

/// The file itself, or those of the folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension() == Some("json".as_ref()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Not a number if there are no values.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
