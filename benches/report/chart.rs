//! Bar charts as SVG, with colours that can be read on white as well as on black.

use std::fmt::Write;

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// What the numbers of the axis are.
    pub(crate) axis: String,
    pub(crate) groups: Vec<Group>,
    /// Longer bars are cut off, and end in an arrow.
    pub(crate) cap: f64,
    /// Where a line goes through all groups.
    pub(crate) mark: Option<f64>,
}

/// Bars that belong together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) tone: Tone,
    pub(crate) value: f64,
    /// The value in words, beside the bar.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Ours,
    Parked,
    /// What the others are compared with.
    Base,
    Floor,
    Other(usize),
}

impl Tone {
    fn colour(self) -> &'static str {
        const OTHERS: [&str; 5] = ["#c9822b", "#a05fb5", "#c9504f", "#3a9aa8", "#4a7fd0"];
        match self {
            Tone::Ours => "#2c9a57",
            Tone::Parked => "#86bd5a",
            Tone::Base => "#4a7fd0",
            Tone::Floor => "#98a0a8",
            Tone::Other(i) => OTHERS[i % OTHERS.len()],
        }
    }
}

const WIDTH: f64 = 820.0;
/// Where bars begin, and where the longest ends.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 670.0;
const MARGIN: f64 = 14.0;

/// Where the first group begins: title, subtitle and legend are above.
const TOP: f64 = 92.0;
const BAR: f64 = 14.0;
const BAR_GAP: f64 = 3.0;
const GROUP_GAP: f64 = 14.0;
/// Numbers and name of the axis.
const BOTTOM: f64 = 52.0;

const TEXT: &str = "#6e7781";
const GRID: &str = "#8b949e";

impl Chart {
    pub(crate) fn draw(&self) -> String {
        let bars: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let bottom = TOP + bars as f64 * (BAR + BAR_GAP) + self.groups.len() as f64 * GROUP_GAP;
        let height = bottom + BOTTOM;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n\
             <title>{}</title>\n<desc>{}</desc>\n",
            escape(&self.title),
            escape(&self.axis),
        );
        let mut heading = |y: f64, size: f64, words: &str| {
            let words = escape(words);
            svg += &format!("<text x=\"{MARGIN}\" y=\"{y}\" font-size=\"{size}\">{words}</text>\n");
        };
        heading(26.0, 17.0, &self.title);
        heading(45.0, 11.0, &self.subtitle);
        self.legend(&mut svg);
        let scale = Scale::new(self.longest());
        self.grid(&mut svg, &scale, bottom);
        self.bars(&mut svg, &scale);
        svg + "</svg>\n"
    }

    /// The longest bar that is drawn.
    fn longest(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let values = bars.map(|bar| bar.value).chain(self.mark);
        values.fold(0.0, f64::max).min(self.cap)
    }

    fn legend(&self, svg: &mut String) {
        const Y: f64 = 68.0;
        /// About as wide as a letter is.
        const LETTER: f64 = 7.0;
        let mut seen: Vec<&str> = Vec::new();
        let mut x = MARGIN;
        for bar in self.groups.iter().flat_map(|group| &group.bars) {
            if seen.contains(&bar.name.as_str()) {
                continue;
            }
            seen.push(&bar.name);
            let (colour, name) = (bar.tone.colour(), escape(&bar.name));
            writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{Y}\">{name}</text>",
                Y - 10.0,
                x + 17.0,
            )
            .ok();
            x += 35.0 + bar.name.chars().count() as f64 * LETTER;
        }
    }

    fn grid(&self, svg: &mut String, scale: &Scale, bottom: f64) {
        let top = TOP - 6.0;
        for tick in scale.ticks() {
            let (x, words) = (scale.x(tick), scale.show(tick));
            writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"{GRID}\" \
                 stroke-opacity=\"0.35\"/><text x=\"{x:.1}\" y=\"{}\" \
                 text-anchor=\"middle\">{words}</text>",
                bottom + 16.0,
            )
            .ok();
        }
        if let Some(mark) = self.mark {
            let x = scale.x(mark);
            writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" \
                 stroke=\"{TEXT}\" stroke-width=\"1.5\"/>",
            )
            .ok();
        }
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT.midpoint(RIGHT),
            bottom + 38.0,
            escape(&self.axis),
        )
        .ok();
    }

    fn bars(&self, svg: &mut String, scale: &Scale) {
        let mut y = TOP;
        for group in &self.groups {
            let height = group.bars.len() as f64 * (BAR + BAR_GAP);
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                y + height / 2.0 + 3.0,
                escape(&group.label),
            )
            .ok();
            for bar in &group.bars {
                let cut = bar.value > self.cap;
                let end = scale.x(bar.value.min(self.cap));
                let arrow = if cut { "▸ " } else { "" };
                writeln!(
                    svg,
                    "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" \
                     fill=\"{}\"><title>{}</title></rect><text x=\"{:.1}\" y=\"{:.1}\" \
                     font-size=\"11\">{arrow}{}</text>",
                    end - LEFT,
                    bar.tone.colour(),
                    escape(&bar.name),
                    end + 5.0,
                    y + BAR - 3.0,
                    escape(&bar.text),
                )
                .ok();
                y += BAR + BAR_GAP;
            }
            y += GROUP_GAP;
        }
    }
}

/// From zero to the longest bar.
#[derive(Debug)]
pub(crate) struct Scale {
    longest: f64,
    step: f64,
}

impl Scale {
    pub(crate) fn new(longest: f64) -> Scale {
        let longest = if longest > 0.0 { longest } else { 1.0 };
        // The first round number that gives no more than so many.
        const TICKS: f64 = 8.0;
        let power = 10f64.powf((longest / TICKS).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let fits = |step: &f64| longest / step <= TICKS;
        let step = steps.into_iter().find(fits).unwrap_or(longest);
        Scale { longest, step }
    }

    pub(crate) fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let step = self.step;
        (0..=(self.longest / step) as usize).map(move |i| i as f64 * step)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * value / self.longest
    }

    fn show(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 3.0) as usize;
        format!("{tick:.decimals$}")
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // XML knows no other control characters than white space.
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}
