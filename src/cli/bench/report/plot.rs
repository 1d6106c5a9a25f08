//! The report as a picture: for each group of measurements bars of how much a second, and beside them, on a logarithmic scale, how
//! long it took.

use svg::Document;
use svg::node::element::{Circle, Group as Layer, Line, Rectangle, Style, Text};

use super::groups::{Group, groups};
use super::table::short;
use super::{Latency, Measurement, Report};
use crate::cli::text;

/// What is where, in pixels from the left.
const WIDTH: f64 = 1270.0;
const MARGIN: f64 = 24.0;
const LABELS_END: f64 = 400.0;
const BARS_BEGIN: f64 = 412.0;
const BARS_END: f64 = 600.0;
const TIMES_BEGIN: f64 = 810.0;
const TIMES_END: f64 = WIDTH - MARGIN;

/// What a letter takes at most on average. A label that may be longer than its place is pressed into it.
const LETTER: f64 = 7.0;

/// And from the top to the next.
const HEAD: f64 = 86.0;
const ROW: f64 = 24.0;
const HEADING: f64 = 40.0;
const AXIS: f64 = 44.0;

/// Of each percentile, from the dark to the light.
const SHADES: [&str; 5] = ["#12385f", "#2c6299", "#5b93c9", "#97bfe3", "#d8623a"];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:18px;font-weight:600}\
.heading{font-size:14px;font-weight:600}.small{font-size:11px;fill:#666}.end{text-anchor:end}.middle{text-anchor:middle}\
.bar{fill:#4a7fb5}.grid{stroke:#ddd}.range{stroke:#9fb6cc;stroke-width:3}";

pub(super) fn draw(report: &Report) -> String {
    let groups = groups(&report.measurements);
    let height: f64 = HEAD + groups.iter().map(height_of).sum::<f64>() + MARGIN;
    let mut document = Document::new()
        .set("xmlns", "http://www.w3.org/2000/svg")
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#fff"))
        .add(label(MARGIN, 34.0, "title", &format!("haypile {}", report.command)))
        .add(label(MARGIN, 56.0, "small", &setting(report)))
        .add(legend());
    let mut top = HEAD;
    for group in &groups {
        document = document.add(panel(group, top));
        top += height_of(group);
    }
    document.to_string()
}

fn setting(report: &Report) -> String {
    let parts = report.setting.iter().map(|one| format!("{} {}", one.name, one.value.text()));
    parts.chain([format!("version {}", report.version)]).collect::<Vec<_>>().join(", ")
}

fn label(x: f64, y: f64, class: &str, content: &str) -> Text {
    Text::new(content).set("x", x).set("y", y).set("class", class)
}

/// What a row is, on the left.
fn fitted(content: &str, y: f64) -> Text {
    let text = label(LABELS_END, y, "end", content);
    let room = LABELS_END - MARGIN;
    if content.chars().count() as f64 * LETTER <= room {
        return text;
    }
    text.set("textLength", room).set("lengthAdjust", "spacingAndGlyphs")
}

fn legend() -> Layer {
    let mut layer = Layer::new();
    for (place, (name, shade)) in Latency::PERCENTILES.into_iter().zip(SHADES).enumerate() {
        let x = TIMES_BEGIN + place as f64 * 84.0;
        layer = layer.add(dot(x, 29.0, shade)).add(label(x + 9.0, 33.0, "small", name));
    }
    layer
}

fn dot(x: f64, y: f64, shade: &str) -> Circle {
    Circle::new().set("cx", round(x)).set("cy", round(y)).set("r", 4.5).set("fill", shade)
}

/// No picture needs more than a tenth of a pixel.
fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// A measurement has a row for each kind of waiting, and one if there was none.
fn rows_of(measurement: &Measurement) -> f64 {
    measurement.latencies.len().max(1) as f64
}

fn height_of(group: &Group<'_>) -> f64 {
    let rows: f64 = group.measurements.iter().map(|one| rows_of(one)).sum();
    HEADING + ROW * rows + AXIS
}

fn panel(group: &Group<'_>, top: f64) -> Layer {
    let most = group.measurements.iter().map(|one| one.throughput.per_second).fold(0.0, f64::max);
    let scale = Scale::of(group);
    let rows_top = top + HEADING;
    let rows_end = top + height_of(group) - AXIS;
    let heading = format!("{} ({} a second)", group.scenario, short(group.counted));
    let mut layer = Layer::new().add(label(MARGIN, top + 14.0, "heading", &heading)).add(label(
        MARGIN,
        top + 30.0,
        "small",
        &group.common_text(),
    ));
    if let Some(scale) = &scale {
        layer = layer.add(axis(scale, rows_top, rows_end));
    }
    let mut y = rows_top;
    for measurement in &group.measurements {
        let rate = measurement.throughput.per_second;
        let length = if most > 0.0 { (BARS_END - BARS_BEGIN) * rate / most } else { 0.0 };
        let share = measurement
            .share
            .map(|share| format!(" = {:.0} % of {}", share.share * 100.0, share.of));
        let value = format!("{}{}", text::number(rate), share.unwrap_or_default());
        let bar = Rectangle::new()
            .set("x", BARS_BEGIN)
            .set("y", y + 4.0)
            .set("width", round(length))
            .set("height", ROW - 8.0)
            .set("class", "bar");
        layer = layer.add(fitted(&group.label(measurement), y + 16.0)).add(bar).add(label(
            round(BARS_BEGIN + length + 6.0),
            y + 16.0,
            "small",
            &value,
        ));
        for (row, latency) in measurement.latencies.iter().enumerate() {
            if let Some(scale) = &scale {
                layer = layer.add(times(
                    latency,
                    scale,
                    y + row as f64 * ROW,
                    measurement.latencies.len() > 1,
                ));
            }
        }
        y += ROW * rows_of(measurement);
    }
    layer
}

/// From the shortest to the longest, with a dot for each percentile; the lower ones lie on top.
fn times(latency: &Latency, scale: &Scale, y: f64, named: bool) -> Layer {
    let middle = y + ROW / 2.0;
    let places = latency.percentiles().map(|time| scale.place(time));
    let range = Line::new()
        .set("x1", round(places[0]))
        .set("x2", round(places[4]))
        .set("y1", middle)
        .set("y2", middle)
        .set("class", "range");
    let mut layer = Layer::new().add(range);
    for (place, shade) in places.into_iter().zip(SHADES).rev() {
        layer = layer.add(dot(place, middle, shade));
    }
    if named {
        layer = layer.add(label(round(places[0] - 10.0), middle + 4.0, "small end", latency.of));
    }
    layer
}

/// Powers of ten, of microseconds.
#[derive(Debug)]
struct Scale {
    least: i32,
    most: i32,
}

impl Scale {
    /// The one that holds all times of a group, if there are any.
    fn of(group: &Group<'_>) -> Option<Scale> {
        // A tenth of a microsecond is as short as it gets: a logarithm of nothing has no place.
        let exponent = |time: f64| time.max(0.1).log10();
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for time in group.latencies().flat_map(Latency::percentiles) {
            least = least.min(exponent(time));
            most = most.max(exponent(time));
        }
        let (least, most) = (least.floor(), most.ceil());
        (least <= most)
            .then(|| Scale { least: least as i32, most: (most as i32).max(least as i32 + 1) })
    }

    fn place(&self, time: f64) -> f64 {
        let share =
            (time.max(0.1).log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        TIMES_BEGIN + (TIMES_END - TIMES_BEGIN) * share
    }
}

fn axis(scale: &Scale, top: f64, end: f64) -> Layer {
    let mut layer = Layer::new();
    for power in scale.least..=scale.most {
        let time = 10_f64.powi(power);
        let x = round(scale.place(time));
        let line = Line::new().set("x1", x).set("x2", x).set("y1", top).set("y2", end + 4.0);
        let name = text::microseconds(time).replace(".00", "").replace(".0", "");
        layer =
            layer.add(line.set("class", "grid")).add(label(x, end + 18.0, "small middle", &name));
    }
    layer
}

#[cfg(test)]
mod tests {
    use roxmltree::{Document, Node};

    use super::super::tests::sample;
    use super::super::{Latencies, Since};
    use super::*;

    fn all<'a>(document: &'a Document<'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
        document.descendants().filter(move |node| node.has_tag_name(name))
    }

    fn attribute(node: &Node<'_, '_>, name: &str) -> f64 {
        node.attribute(name).unwrap().parse().unwrap()
    }

    #[test]
    fn a_plot_is_well_formed_and_has_a_bar_and_five_dots_for_each_measurement() {
        let plot = sample().as_plot();
        let document = Document::parse(&plot).unwrap();
        let bars: Vec<f64> = all(&document, "rect")
            .filter(|node| node.attribute("class") == Some("bar"))
            .map(|node| attribute(&node, "width"))
            .collect();
        // 2,000 and 75,000 messages a second: the longest bar takes all the room there is.
        assert_eq!(bars, [5.0, 188.0]);
        assert_eq!(all(&document, "circle").count(), 5 + 2 * 5);
        let texts: Vec<&str> =
            all(&document, "text").filter_map(|node| node.text()).map(str::trim).collect();
        for wanted in [
            "append (msg a second)",
            "size 1 KiB",
            "writers 64",
            "75,000 = 94 % of disk",
            "100 µs",
            "100 ms",
        ] {
            assert!(texts.contains(&wanted), "{wanted} is not in {texts:?}");
        }
        assert!(texts.iter().any(|text| text.contains("/data & <more>")), "{texts:?}");
    }

    #[test]
    fn everything_is_inside_of_the_picture() {
        let mut report = sample();
        let mut latencies = Latencies::default();
        latencies.record(std::time::Duration::ZERO);
        latencies.record(std::time::Duration::MAX);
        report.measurements[0].latencies.extend(latencies.summary("delivered", Since::Due));
        let plot = report.as_plot();
        let document = Document::parse(&plot).unwrap();
        let height = attribute(&document.root_element(), "height");
        for dot in all(&document, "circle") {
            assert!((0.0..=WIDTH).contains(&attribute(&dot, "cx")), "{dot:?}");
            assert!((0.0..=height).contains(&attribute(&dot, "cy")), "{dot:?}");
        }
    }

    #[test]
    fn a_long_label_is_pressed_into_its_place() {
        let mut report = sample();
        report.measurements[0]
            .parameters
            .set("with", "a word that is much longer than any other word is");
        let plot = report.as_plot();
        let document = Document::parse(&plot).unwrap();
        let pressed = all(&document, "text").filter(|node| node.has_attribute("textLength"));
        assert_eq!(pressed.count(), 1);
    }

    #[test]
    fn a_report_of_nothing_has_a_plot_of_nothing() {
        let mut report = sample();
        report.measurements.clear();
        assert!(Document::parse(&report.as_plot()).is_ok());
    }
}
