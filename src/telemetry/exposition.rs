//! Reads figures out of the text that `/metrics` shows, so that what is drawn and added up elsewhere is the same.
//!
//! Pure, and only for our own text: a line that cannot be read counts as missing.

/// The text of all metrics at one moment.
pub(super) struct Exposition<'a>(pub(super) &'a str);

/// One value with its labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MetricLine<'a> {
    labels: &'a str,
    value: f64,
}

impl MetricLine<'_> {
    /// Whether the label has one of these values, none of which holds a quotation mark.
    pub(super) fn has(&self, label: &str, values: &[&str]) -> bool {
        let parts = self.labels.match_indices(label);
        parts.filter(|(at, _)| *at == 0 || self.labels.as_bytes()[at - 1] == b',').any(|(at, _)| {
            let rest = self.labels[at + label.len()..].strip_prefix("=\"").unwrap_or_default();
            values.iter().any(|value| rest.strip_prefix(value).is_some_and(|end| end.starts_with('"')))
        })
    }
}

impl Exposition<'_> {
    fn lines(&self, name: &str) -> impl Iterator<Item = MetricLine<'_>> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix("wheelport_")?.strip_prefix(name)?;
            // Labels may hold spaces and braces; values do not.
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_this = labels.is_empty() || labels.starts_with('{');
            let labels = labels.trim_start_matches('{').trim_end_matches('}');
            Some(MetricLine { labels, value: value.parse().ok()? }).filter(|_| is_this)
        })
    }

    /// The sum over the lines of a metric, named without its prefix, that are wanted. No line at all is 0.
    pub(super) fn sum(&self, name: &str, is_wanted: impl Fn(&MetricLine<'_>) -> bool) -> f64 {
        // The sum of nothing is -0.0.
        0.0 + self.lines(name).filter(is_wanted).map(|line| line.value).sum::<f64>()
    }

    /// The largest value of a metric; 0 where there is none.
    pub(super) fn largest(&self, name: &str) -> f64 {
        self.lines(name).map(|line| line.value).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        # HELP wheelport_requests Requests.\n\
        # TYPE wheelport_requests counter\n\
        wheelport_requests_total{kind=\"page\",status=\"200\",served=\"hit\"} 3\n\
        wheelport_requests_total{kind=\"page\",status=\"503\",served=\"none\"} 2\n\
        wheelport_requests_total{kind=\"health\",status=\"200\",served=\"none\"} 40\n\
        wheelport_requests_total_more 7\n\
        wheelport_upstream_rate_limit{route=\"a } b\"} 20.5\n\
        wheelport_upstream_rate_limit{route=\"status=\"} 350.0\n\
        wheelport_cache_disk_bytes 1024\n\
        wheelport_broken x\n\
        # EOF\n";

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn lines_are_chosen_by_name_and_labels() {
        let text = Exposition(TEXT);
        let requests = |status: &'static [&'static str]| text.sum("requests_total", |line| line.has("status", status));
        assert!(close(requests(&["200"]), 43.0) && close(requests(&["503", "200"]), 45.0));
        assert!(close(requests(&["20"]), 0.0), "a label has its whole value");
        assert!(close(text.sum("requests_total", |line| line.has("kind", &["page"])), 5.0));
        assert!(close(text.sum("requests_total", |line| line.has("ind", &["page"])), 0.0), "and its whole name");
    }

    #[test]
    fn what_is_not_there_or_cannot_be_read_is_nothing() {
        let text = Exposition(TEXT);
        assert!(close(text.sum("cache_disk_bytes", |_| true), 1024.0));
        assert!(close(text.sum("broken", |_| true), 0.0) && close(text.sum("absent", |_| true), 0.0));
        assert!(close(text.largest("upstream_rate_limit"), 350.0), "labels may hold anything");
    }
}
