//! What the programs that compare others have in common: options, programs that are measured,
//! results in rounds, medians and paired ratios, the JSON file, tables and plots.

pub(crate) mod chart;
pub(crate) mod example;
pub(crate) mod options;
pub(crate) mod plot;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod results;
pub(crate) mod sample;
pub(crate) mod system;
pub(crate) mod table;
