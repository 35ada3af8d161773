use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// 2026-11-01T00:00:00Z
const NOVEMBER: u64 = 1_793_491_200;

fn tally(requests: u64, upstream_requests: u64) -> RequestTally {
    RequestTally { requests, upstream_requests, ..RequestTally::default() }
}

#[test]
fn months_are_those_of_the_calendar() {
    assert_eq!(month_of(NOVEMBER), "2026-11");
    assert_eq!(month_of(NOVEMBER - 1), "2026-10");
    assert_eq!(end_of_month(NOVEMBER), Some(NOVEMBER + 30 * DAY));
    assert_eq!(end_of_month(NOVEMBER + 30 * DAY), Some(NOVEMBER + 61 * DAY), "the year turns");
}

#[test]
fn what_is_spared_may_be_negative() {
    assert_eq!(tally(10, 4).spared_requests(), 6);
    assert_eq!(tally(4, 10).spared_requests(), -6);
    assert_eq!(
        RequestTally { bytes: 5, upstream_bytes: u64::MAX, ..RequestTally::default() }.spared_bytes(),
        -i64::MAX
    );
}

#[test]
fn a_month_is_projected_after_a_day_from_what_was_counted_of_it() {
    let savings = Savings::default();
    // Counted from the tenth day on.
    let since = NOVEMBER + 9 * DAY;
    savings.add(&tally(0, 0), since);
    savings.add(&tally(100, 10), since + DAY - 1);
    assert_eq!(savings.view(since + DAY - 1).projected, None);
    // One day is counted, twenty are left.
    let view = savings.view(since + DAY);
    assert_eq!(view.projected, Some(tally(2100, 210)));
    assert_eq!((view.name.as_str(), view.month), ("2026-11", MonthOfSavings { since, tally: tally(100, 10) }));
}

#[test]
fn each_month_has_its_own_and_the_oldest_are_forgotten() {
    let savings = Savings::default();
    for month in 0..20 {
        savings.add(&tally(month + 1, 0), NOVEMBER + month * 31 * DAY);
    }
    let view = savings.view(NOVEMBER + 19 * 31 * DAY);
    assert_eq!((view.month.tally.requests, view.earlier.len()), (20, MOST_MONTHS - 1));
    assert_eq!(view.earlier[0].1.tally.requests, 19, "the newest is first");
}

#[test]
fn what_is_written_is_counted_once_and_what_came_meanwhile_stays_pending() {
    let savings = Savings::default();
    savings.add(&tally(5, 1), NOVEMBER);
    let pending = savings.pending();
    savings.add(&tally(2, 0), NOVEMBER + 1);
    // The record held 100 of another process.
    let held = Months::from([("2026-11".to_owned(), MonthOfSavings { since: NOVEMBER - 5, tally: tally(100, 50) })]);
    savings.recorded(merged(held, &pending), &pending, NOVEMBER + 2);
    let view = savings.view(NOVEMBER + 3);
    assert_eq!(view.month, MonthOfSavings { since: NOVEMBER - 5, tally: tally(107, 51) });
    assert_eq!(savings.pending().values().map(|month| month.tally.requests).collect::<Vec<_>>(), [2]);
    assert_eq!((view.written, view.failure), (Some(NOVEMBER + 2), None));
    savings.failed("the disk is full".to_owned());
    let view = savings.view(NOVEMBER + 3);
    assert_eq!((view.month.tally.requests, view.failure.as_deref()), (107, Some("the disk is full")));
}

#[test]
fn a_tally_is_what_grew_between_two_samples() {
    let sample = |answered: u32, upstream: u32| {
        let text = format!(
            "wheelport_requests_total{{kind=\"page\",status=\"200\",served=\"hit\"}} {answered}\n\
             wheelport_upstream_attempts_total{{route=\"a\"}} {upstream}\n"
        );
        Sample::of(&text, Duration::ZERO)
    };
    assert_eq!(RequestTally::between(&sample(5, 2), &sample(9, 3)), tally(4, 1));
}
