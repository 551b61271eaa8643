//! A plot of lines over two logarithmic axes, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 390.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
/// Title, and a row for each of four lines' names.
const TOP: f64 = 88.0;
const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 5] = ["#0b6e4f", "#c0392b", "#2c6fbb", "#b8860b", "#6c3483"];

pub struct Plot {
    pub title: String,
    pub x: String,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A range of whole decades.
struct Axis {
    first: i32,
    last: i32,
}

/// Two plots in a row, as one file.
pub fn svg(plots: &[Plot]) -> String {
    let (width, height) = (WIDTH * 2.0, HEIGHT * plots.len().div_ceil(2) as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, plot) in plots.iter().enumerate() {
        let _ = writeln!(
            out,
            "<g transform=\"translate({} {})\">",
            WIDTH * (number % 2) as f64,
            HEIGHT * (number / 2) as f64
        );
        plot.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

impl Plot {
    fn draw(&self, out: &mut String) {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let (x_axis, y_axis) = (Axis::over(points().map(|point| point.0)), Axis::over(points().map(|point| point.1)));
        let x = |value: f64| LEFT + x_axis.part(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - y_axis.part(value) * (HEIGHT - TOP - BOTTOM);
        text(out, (WIDTH / 2.0, 18.0), "middle", &self.title);
        text(out, (WIDTH / 2.0, HEIGHT - 10.0), "middle", &self.x);
        for decade in x_axis.first..=x_axis.last {
            let at = x(10f64.powi(decade));
            rule(out, (at, TOP), (at, HEIGHT - BOTTOM));
            text(out, (at, HEIGHT - BOTTOM + 15.0), "middle", &label(decade));
        }
        for decade in y_axis.first..=y_axis.last {
            let at = y(10f64.powi(decade));
            rule(out, (LEFT, at), (WIDTH - RIGHT, at));
            text(out, (LEFT - 5.0, at + 4.0), "end", &label(decade));
        }
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let mut path = String::new();
            for (at_x, at_y) in line.points.iter().filter(|(_, at_y)| *at_y > 0.0) {
                let _ = write!(path, "{:.1},{:.1} ", x(*at_x), y(*at_y));
                let _ =
                    writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*at_x), y(*at_y));
            }
            let _ =
                writeln!(out, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
            let row = 34.0 + 14.0 * number as f64;
            let _ =
                writeln!(out, "<rect x=\"{}\" y=\"{}\" width=\"9\" height=\"9\" fill=\"{colour}\"/>", LEFT, row - 8.0);
            text(out, (LEFT + 13.0, row), "start", &line.name);
        }
    }
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        let first = low.log10().floor() as i32;
        Axis { first, last: (high.log10().ceil() as i32).max(first + 1) }
    }

    /// Where a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        (value.max(f64::MIN_POSITIVE).log10() - f64::from(self.first)) / f64::from(self.last - self.first)
    }
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>", at.0, at.1);
}

fn label(decade: i32) -> String {
    match decade {
        -3..=3 => format!("{}", 10f64.powi(decade)),
        _ => format!("1e{decade}"),
    }
}
