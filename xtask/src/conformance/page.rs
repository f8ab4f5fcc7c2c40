//! The report as a page.

use std::collections::BTreeMap;

use super::results::{Deviation, Results, Run};

/// One page without references, except for the suite's own reports beside it, in `suite`.
pub(crate) fn render(run: &Run, deviations: &[Deviation], suite: &str) -> String {
    let mut page = HEAD.to_owned();
    page += &format!("<p>{}</p>\n", escape(&run.results.summary()));
    page += &groups(&run.results, deviations);
    if deviations.is_empty() {
        page += "<p>Every case went as expected.</p>\n";
    } else {
        page += "<h2>Deviations</h2>\n<ul>\n";
        for deviation in deviations {
            let text = escape(&deviation.to_string());
            page += &match run.files.get(&deviation.case) {
                Some(file) => {
                    // Beside the JSON file there is the same as a page.
                    let file = escape(&file.replace(".json", ".html"));
                    format!("<li><a href=\"{suite}/{file}\">{text}</a></li>\n")
                }
                None => format!("<li>{text}</li>\n"),
            };
        }
        page += "</ul>\n";
    }
    page + "</html>\n"
}

fn groups(results: &Results, deviations: &[Deviation]) -> String {
    let behaviors: Vec<&str> = results.counts().into_iter().map(|(name, _)| name).collect();
    let mut groups: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (case, verdict) in results.iter() {
        let group = groups.entry(case.group()).or_default();
        group.push(&verdict.behavior);
    }
    let mut table = "<table>\n<tr><th class=\"name\" colspan=\"2\">group<th>cases".to_owned();
    for behavior in &behaviors {
        table += &format!("<th>{}", escape(behavior));
    }
    table += "<th>deviate\n";
    for (group, cases) in groups {
        table += &format!(
            "<tr><td>{group}<td class=\"name\">{}<td>{}",
            name(group),
            cases.len()
        );
        for behavior in &behaviors {
            let count = cases.iter().filter(|found| *found == behavior).count();
            table += &format!("<td>{}", or_blank(count));
        }
        let count = deviations
            .iter()
            .filter(|d| d.case.group() == group)
            .count();
        table += &format!("<td>{}\n", or_blank(count));
    }
    table + "</table>\n"
}

/// The suite's name of a group.
fn name(group: u32) -> &'static str {
    match group {
        1 => "Framing",
        2 => "Pings and pongs",
        3 => "Reserved bits",
        4 => "Opcodes",
        5 => "Fragmentation",
        6 => "UTF-8 handling",
        7 => "Close handling",
        9 => "Limits and performance",
        10 => "Misc",
        12 => "Compression, different payloads",
        13 => "Compression, different parameters",
        _ => "",
    }
}

fn or_blank(count: usize) -> String {
    match count {
        0 => String::new(),
        count => count.to_string(),
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

const HEAD: &str = "\
<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Greenwood and the Autobahn test suite</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .8rem; text-align: right }
.name { text-align: left }
</style>
<h1>Greenwood and the Autobahn test suite</h1>
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::results::compare;

    #[test]
    fn page_has_groups_and_links_deviations() {
        let index = r#"{"us": {
            "1.1.1": {"behavior": "OK", "behaviorClose": "OK", "reportfile": "us_1_1_1.json"},
            "2.1": {"behavior": "<b>", "behaviorClose": "OK", "reportfile": "us_2_1.json"}}}"#;
        let expected = r#"{"1.1.1": {"behavior": "OK", "behaviorClose": "OK"}}"#;
        let run = Run::parse(index).unwrap();
        let expected = Results::parse(expected).unwrap();
        let deviations = compare(&run.results, &expected, &"*".parse().unwrap());
        let page = render(&run, &deviations, "suite");
        for part in [
            "<p>1 OK, 1 &lt;b&gt; of 2</p>",
            "<tr><td>1<td class=\"name\">Framing<td>1<td>1<td><td>\n",
            "<tr><td>2<td class=\"name\">Pings and pongs<td>1<td><td>1<td>1\n",
            "<li><a href=\"suite/us_2_1.html\">2.1: expected no such case, found &lt;b&gt; (close: OK)",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }
}
