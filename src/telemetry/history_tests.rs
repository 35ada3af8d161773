use super::*;

/// A sample with some figures.
fn sample(seconds: u64, figures: &[(Measure, f64)]) -> Sample {
    let mut values = [0.0; Measure::ALL.len()];
    for (measure, value) in figures {
        values[*measure as usize] = *value;
    }
    Sample { at: Duration::from_secs(seconds), values }
}

fn close(found: &[f64], expected: &[f64]) {
    let is_close = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(is_close, "{found:?}, not {expected:?}");
}

#[test]
fn measures_stand_in_the_order_in_which_they_are_stored() {
    for (position, measure) in Measure::ALL.into_iter().enumerate() {
        assert_eq!(measure as usize, position, "{measure:?}");
    }
}

#[test]
fn every_figure_comes_from_its_metric() {
    let text = "\
        wheelport_requests_total{kind=\"page\",status=\"200\",served=\"hit\"} 1\n\
        wheelport_requests_total{kind=\"file\",status=\"206\",served=\"revalidating\"} 2\n\
        wheelport_requests_total{kind=\"metadata\",status=\"304\",served=\"stale\"} 4\n\
        wheelport_requests_total{kind=\"page\",status=\"200\",served=\"miss\"} 8\n\
        wheelport_requests_total{kind=\"file\",status=\"200\",served=\"collapsed\"} 16\n\
        wheelport_requests_total{kind=\"file\",status=\"200\",served=\"bypass\"} 32\n\
        wheelport_requests_total{kind=\"page\",status=\"503\",served=\"none\"} 64\n\
        wheelport_requests_total{kind=\"page\",status=\"404\",served=\"none\"} 128\n\
        wheelport_requests_total{kind=\"list\",status=\"200\",served=\"hit\"} 256\n\
        wheelport_requests_total{kind=\"upload\",status=\"200\",served=\"none\"} 512\n\
        wheelport_requests_total{kind=\"health\",status=\"503\",served=\"none\"} 1024\n\
        wheelport_sent_bytes_total{kind=\"page\"} 100\n\
        wheelport_sent_bytes_total{kind=\"home\"} 7\n\
        wheelport_upstream_attempts_total{route=\"a\"} 5\n\
        wheelport_upstream_attempts_total{route=\"b\"} 6\n\
        wheelport_upstream_bytes_total{route=\"a\",kind=\"page\"} 70\n\
        wheelport_upstream_throttles_total{route=\"a\"} 3\n\
        wheelport_fleet_tier_total{kind=\"blob\",result=\"hit\"} 9\n\
        wheelport_fleet_tier_total{kind=\"blob\",result=\"miss\"} 10\n\
        wheelport_upstream_busiest_second{route=\"a\"} 20\n\
        wheelport_upstream_busiest_second{route=\"b\"} 30\n\
        wheelport_cache_disk_bytes 1000\n\
        wheelport_memory_resident_bytes 2000\n\
        wheelport_requests_in_flight 12\n\
        wheelport_connections 13\n";
    let found = Sample::of(text, Duration::ZERO);
    let expected = [1023.0, 575.0, 7.0, 56.0, 64.0, 100.0, 11.0, 70.0, 3.0, 9.0, 30.0, 1000.0, 2000.0, 12.0, 13.0];
    for (measure, expected) in Measure::ALL.into_iter().zip(expected) {
        assert!((found.get(measure) - expected).abs() < 1e-9, "{measure:?}: {}", found.get(measure));
    }
}

#[test]
fn a_counter_that_begins_again_at_zero_has_no_negative_rate() {
    let history = History::default();
    for (seconds, count) in [(0, 100.0), (30, 160.0), (60, 30.0), (90, 30.0)] {
        history.record(sample(seconds, &[(Measure::Requests, count)]));
    }
    close(&history.hour().rate(Measure::Requests), &[2.0, 1.0, 0.0]);
    close(&[history.hour().growth(Measure::Requests)], &[90.0]);
    assert_eq!(History::default().hour().growth(Measure::Requests).to_string(), "0", "of no interval, and not -0");
}

#[test]
fn a_rate_counts_the_seconds_that_really_passed() {
    let history = History::default();
    // The machine slept.
    for (seconds, count) in [(0, 0.0), (30, 30.0), (3630, 3630.0)] {
        history.record(sample(seconds, &[(Measure::SentBytes, count)]));
    }
    close(&history.hour().rate(Measure::SentBytes), &[1.0, 1.0]);
    assert_eq!(history.hour().covered(), Duration::from_secs(3630));
}

#[test]
fn a_share_is_unknown_where_nothing_happened() {
    let history = History::default();
    for (seconds, hits, misses) in [(0, 0.0, 0.0), (30, 3.0, 1.0), (60, 3.0, 1.0), (90, 3.0, 2.0)] {
        history.record(sample(seconds, &[(Measure::Hits, hits), (Measure::Misses, misses)]));
    }
    assert_eq!(history.hour().share(Measure::Hits, Measure::Misses), [Some(0.75), None, Some(0.0)]);
}

#[test]
fn a_day_and_more_stay_within_the_bound_and_the_oldest_go_first() {
    let history = History::default();
    let minutes = 2 * 24 * 60;
    for number in 0..=2 * minutes {
        history
            .record(sample(30 * number, &[(Measure::Requests, 60.0 * f64::from(u32::try_from(number).unwrap_or(0)))]));
    }
    let (hour, day) = (history.hour(), history.day());
    assert_eq!((hour.samples.len(), day.samples.len()), (HOUR + 1, DAY + 1));
    assert_eq!((hour.covered(), day.covered()), (Duration::from_hours(1), Duration::from_hours(24)));
    assert!(
        hour.rate(Measure::Requests).iter().chain(&day.rate(Measure::Requests)).all(|rate| (rate - 2.0).abs() < 1e-9)
    );
    assert!(MOST_SAMPLES * size_of::<Sample>() <= 40 << 10, "the documented bound");
}

#[test]
fn what_is_folded_keeps_its_peaks_and_the_last_of_all_else() {
    let history = History::default();
    for number in 0..=20_u64 {
        let peak = if number == 7 { 90.0 } else { 4.0 };
        let connections = f64::from(u32::try_from(number).unwrap_or(0));
        history.record(sample(30 * number, &[(Measure::BusiestSecond, peak), (Measure::Connections, connections)]));
    }
    close(&history.day().level(Measure::BusiestSecond), &[90.0]);
    close(&history.day().level(Measure::Connections), &[20.0]);
    close(&history.busiest_seconds(), &[90.0, 90.0]);
    // An hour later only the day remembers it.
    for number in 21..=160 {
        history.record(sample(30 * number, &[(Measure::BusiestSecond, 4.0)]));
    }
    close(&history.busiest_seconds(), &[4.0, 90.0]);
}
