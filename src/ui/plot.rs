//! Small plots of what happened: inline SVG without style or script, with a text that says the same.
//!
//! The path is a pure function of the values. Time runs to the right and ends now; what is not known leaves a gap.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::words;

/// The size of the drawing, in its own units.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// What the numbers of a plot are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Number,
    PerSecond,
    PerMinute,
    Bytes,
    BytesPerSecond,
    Share,
}

impl Unit {
    /// How much of a bound is used.
    pub(super) fn of(self, used: f64, bound: f64) -> String {
        let share = if bound > 0.0 { used / bound } else { 0.0 };
        format!("{} of {} ({})", self.text(used), self.text(bound), words::percent(share))
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Number => words::rough(value),
            Self::PerSecond => format!("{}/s", words::rough(value)),
            Self::PerMinute => format!("{}/min", words::rough(value)),
            Self::Bytes => words::bytes(value),
            Self::BytesPerSecond => format!("{}/s", words::bytes(value)),
            Self::Share => words::percent(value),
        }
    }
}

/// One line of a plot, over two times.
#[derive(Debug, Clone)]
pub(crate) struct PlotLine {
    pub(crate) name: &'static str,
    /// One value for each interval, the oldest first; none where it is not known.
    pub(crate) hour: Vec<Option<f64>>,
    pub(crate) day: Vec<Option<f64>>,
}

/// One figure, or two of a kind, in the last hour and in the last day.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    /// What the top stands for; the largest value where nothing is said.
    pub(crate) top: Option<f64>,
    pub(crate) lines: Vec<PlotLine>,
    /// The most intervals of an hour and of a day.
    pub(crate) most: [usize; 2],
}

/// The plots, each on a card of its own.
pub(super) fn plots(plots: &[Plot]) -> Markup {
    html! {
        div.plots { @for plot in plots { (card(plot)) } }
    }
}

fn card(plot: &Plot) -> Markup {
    let newest = |line: &PlotLine| line.hour.iter().rev().flatten().next().map(|value| plot.unit.text(*value));
    html! {
        section.plot {
            h3 { (plot.title) }
            p.newest {
                @for (number, line) in plot.lines.iter().enumerate() {
                    span class=(class_of(number)) {
                        (newest(line).as_deref().unwrap_or("–"))
                        @if plot.lines.len() > 1 { " " small { (line.name) } }
                    }
                }
            }
            (drawing(plot, "hour", plot.most[0], |line| &line.hour))
            (drawing(plot, "day", plot.most[1], |line| &line.day))
        }
    }
}

/// The lines of a plot differ in more than their colour.
const fn class_of(number: usize) -> &'static str {
    if number == 0 { "first" } else { "second" }
}

fn drawing<'a>(
    plot: &'a Plot,
    time: &'static str,
    most: usize,
    values: impl Fn(&'a PlotLine) -> &'a Vec<Option<f64>>,
) -> Markup {
    let all = || plot.lines.iter().flat_map(|line| values(line).iter().flatten().copied());
    let largest = all().fold(0.0, f64::max);
    let top = plot.top.unwrap_or(largest).max(largest);
    let described: Vec<_> = plot.lines.iter().map(|line| description(plot.unit, line.name, values(line))).collect();
    let text = format!("{}, last {time}. {}", plot.title, described.join(" "));
    html! {
        figure {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(text) {
                @for (number, line) in plot.lines.iter().enumerate() {
                    @let outline = path(values(line), most, top);
                    path class=(class_of(number)) d=(outline) vector-effect="non-scaling-stroke" {}
                }
            }
            figcaption {
                span { "last " (time) }
                span { @if all().next().is_some() { "top " (plot.unit.text(top)) } @else { "no figures yet" } }
            }
        }
    }
}

/// The values in words.
fn description(unit: Unit, name: &str, values: &[Option<f64>]) -> String {
    let known = || values.iter().flatten().copied();
    let Some(last) = known().next_back() else { return format!("{name}: no figures yet.") };
    let (least, most) = known().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    format!("{name}: between {} and {}, last {}.", unit.text(least), unit.text(most), unit.text(last))
}

/// The outline of values from the bottom up to `top`, at the right end of a drawing that has room for `most`.
fn path(values: &[Option<f64>], most: usize, top: f64) -> String {
    let values = &values[values.len().saturating_sub(most)..];
    let step = WIDTH / number(most.saturating_sub(1).max(1));
    let missing = most.saturating_sub(values.len());
    let (mut path, mut is_drawn) = (String::new(), false);
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            is_drawn = false;
            continue;
        };
        let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
        // Half a unit at both ends is left for the width of the line.
        let (x, y) = (step * number(missing + at), HEIGHT - 1.0 - share * (HEIGHT - 2.0));
        // Between two gaps a single value is a dot.
        let is_alone = !is_drawn && values.get(at + 1).is_none_or(|next| next.is_none_or(|next| !next.is_finite()));
        let drawn = match (is_drawn, is_alone) {
            (true, _) => write!(path, "L{x:.1} {y:.1}"),
            (false, false) => write!(path, "M{x:.1} {y:.1}"),
            (false, true) => write!(path, "M{:.1} {y:.1}h{step:.1}", (x - step).max(0.0)),
        };
        debug_assert!(drawn.is_ok(), "a string takes everything");
        is_drawn = true;
    }
    path
}

#[expect(clippy::cast_precision_loss, reason = "a drawing has a few hundred intervals")]
const fn number(count: usize) -> f64 {
    count as f64
}

/// A bar that shows how much of a bound is used.
pub(super) fn bar(used: f64, bound: f64) -> Markup {
    let share = if bound > 0.0 { (used / bound).clamp(0.0, 1.0) } else { 0.0 };
    let class = match share {
        _ if share >= 0.95 => "bar-full",
        _ if share >= 0.8 => "bar-high",
        _ => "bar-low",
    };
    html! {
        svg.usage viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.bar-rest width="100" height="6" {}
            rect class=(class) width=(format!("{:.1}", share * 100.0)) height="6" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_the_right_and_keeps_its_scale() {
        let values = [Some(0.0), Some(5.0), Some(10.0)];
        assert_eq!(path(&values, 3, 10.0), "M0.0 47.0L120.0 24.0L240.0 1.0");
        // Two of five intervals are not there yet.
        assert_eq!(path(&values, 5, 10.0), "M120.0 47.0L180.0 24.0L240.0 1.0");
        assert_eq!(path(&values, 2, 10.0), "M0.0 24.0L240.0 1.0", "the oldest go");
    }

    #[test]
    fn what_is_not_known_leaves_a_gap_and_a_single_value_shows() {
        let values = [Some(1.0), None, Some(1.0), Some(f64::NAN), Some(0.0), Some(1.0)];
        assert_eq!(path(&values, 6, 1.0), "M0.0 1.0h48.0M48.0 1.0h48.0M192.0 47.0L240.0 1.0");
        assert_eq!(path(&[None, None], 2, 1.0), "");
        assert_eq!(path(&[], 0, 1.0), "");
    }

    #[test]
    fn no_value_leaves_the_drawing() {
        assert_eq!(path(&[Some(20.0), Some(-3.0)], 2, 10.0), "M0.0 1.0L240.0 47.0");
        assert_eq!(path(&[Some(0.0), Some(0.0)], 2, 0.0), "M0.0 47.0L240.0 47.0", "a top of zero divides nothing");
    }

    #[test]
    fn a_plot_says_in_words_what_it_draws() {
        let line = PlotLine { name: "clients", hour: vec![Some(2.0), None, Some(3.5)], day: Vec::new() };
        let plot = Plot { title: "Requests", unit: Unit::PerSecond, top: None, lines: vec![line], most: [120, 144] };
        let page = plots(&[plot]).into_string();
        for part in [
            "aria-label=\"Requests, last hour. clients: between 2/s and 3.5/s, last 3.5/s.\"",
            "aria-label=\"Requests, last day. clients: no figures yet.\"",
            "<span>top 3.5/s</span>",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("style="), "the policy allows no style of an element");
    }

    #[test]
    fn a_bar_is_as_long_as_the_share_and_says_when_it_is_full() {
        for (used, bound, class, width) in
            [(1.0, 4.0, "bar-low", "25.0"), (9.0, 10.0, "bar-high", "90.0"), (30.0, 10.0, "bar-full", "100.0")]
        {
            let bar = bar(used, bound).into_string();
            assert!(bar.contains(&format!("class=\"{class}\" width=\"{width}\"")), "{bar}");
        }
        assert!(bar(1.0, 0.0).into_string().contains("width=\"0.0\""));
    }
}
