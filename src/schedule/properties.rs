//! The calendar against `croner`, over zones and years, and against a walk through every second; the stated rule where they differ.

#![cfg(test)]

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;

use super::line::Line;

/// Zones with every kind of change: by an hour and by half of one, at midnight, a whole day left out, none at all.
const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Tehran",
    "America/Sao_Paulo",
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn line(text: &str) -> Line {
    text.parse().unwrap()
}

/// The next instants of a line, written in its zone.
fn runs(text: &str, name: &str, after: &str, count: usize) -> Vec<String> {
    let (zone, line) = (zone(name), line(text));
    let mut at = after.parse::<DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp();
    let mut runs = Vec::new();
    for _ in 0..count {
        at = line.next(&zone, at).unwrap();
        runs.push(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M:%S %Z").to_string());
    }
    runs
}

#[test]
fn a_time_of_day_in_the_gap_runs_right_after_it_and_one_that_comes_twice_runs_once() {
    let berlin = |text, after, count| runs(text, "Europe/Berlin", after, count);
    assert_eq!(
        berlin("30 2 * * *", "2027-03-27T03:00", 3),
        ["03-28 03:00:00 CEST", "03-29 02:30:00 CEST", "03-30 02:30:00 CEST"]
    );
    assert_eq!(
        berlin("30 2 * * *", "2027-10-30T03:00", 2),
        ["10-31 02:30:00 CEST", "11-01 02:30:00 CET"],
        "not at 02:30 CET of that day"
    );
    assert_eq!(
        berlin("0,30 2 * * *", "2027-03-27T02:45", 3),
        ["03-28 03:00:00 CEST", "03-29 02:00:00 CEST", "03-29 02:30:00 CEST"],
        "two in one gap are one"
    );
    assert_eq!(
        runs("0 0 * * *", "America/Santiago", "2026-09-05T00:00", 2),
        ["09-06 01:00:00 -03", "09-07 00:00:00 -03"],
        "a day without midnight"
    );
    assert_eq!(
        runs("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00", 2),
        ["12-31 00:00:00 +14", "12-31 12:00:00 +14"],
        "a day that never was"
    );
}

#[test]
fn what_runs_every_hour_runs_in_every_hour_there_is() {
    let berlin = |text, after, count| runs(text, "Europe/Berlin", after, count);
    assert_eq!(
        berlin("17 * * * *", "2027-10-31T01:17", 4),
        ["10-31 02:17:00 CEST", "10-31 02:17:00 CET", "10-31 03:17:00 CET", "10-31 04:17:00 CET"]
    );
    assert_eq!(berlin("17 * * * *", "2027-03-28T01:17", 2), ["03-28 03:17:00 CEST", "03-28 04:17:00 CEST"]);
    assert_eq!(
        runs("17 * * * *", "Australia/Lord_Howe", "2027-04-04T01:17", 3),
        ["04-04 02:17:00 +1030", "04-04 03:17:00 +1030", "04-04 04:17:00 +1030"],
        "half an hour comes twice: 01:30 to 02:00"
    );
}

#[test]
fn lines_as_operators_write_them() {
    let utc = |text, after, count| runs(text, "UTC", after, count);
    assert_eq!(utc("@daily", "2027-01-01T00:00", 1), ["01-02 00:00:00 UTC"]);
    assert_eq!(utc("@weekly", "2027-01-01T00:00", 1), ["01-03 00:00:00 UTC"], "a Sunday");
    assert_eq!(utc("0 0 * * 7", "2027-01-01T00:00", 1), utc("0 0 * * 0", "2027-01-01T00:00", 1));
    assert_eq!(utc("0 0 * * Sat-Sun", "2027-01-01T00:00", 2), ["01-02 00:00:00 UTC", "01-03 00:00:00 UTC"]);
    assert_eq!(utc("0 0 1 jan,JUL mon", "2027-01-28T00:00", 2), ["07-01 00:00:00 UTC", "07-05 00:00:00 UTC"], "either");
    assert_eq!(utc("0 0 */2 * Mon", "2027-01-01T00:00", 1), ["01-11 00:00:00 UTC"], "a star widens nothing");
    assert_eq!(utc("*/20 5 8-18/5 * * *", "2027-01-01T18:05:30", 2), ["01-01 18:05:40 UTC", "01-02 08:05:00 UTC"]);
    assert_eq!(utc("0 0 29 2 *", "2027-01-01T00:00", 1), ["02-29 00:00:00 UTC"], "of 2028");
}

#[test]
fn what_is_no_line_is_refused_and_says_why() {
    let refused = |text: &str, why: &str| {
        let error = text.parse::<Line>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    };
    refused("", "0 fields");
    refused("* * * *", "4 fields");
    refused("60 * * * *", "`60` is no minute, which is one of 0-59");
    refused("* 24 * * *", "no hour");
    refused("* * 0 * *", "no day of the month");
    refused("* * * foo *", "`foo` is no month");
    refused("* * * * 8", "no day of the week");
    refused("5/10 * * * *", "a step follows a range");
    refused("*/0 * * * *", "no step");
    refused("30-10 * * * *", "ends before it begins");
    refused("+5 * * * *", "`+5` is no minute");
    refused("0 0 30 2 *", "no month has such a day");
    refused("0 0 31 4,6 Mon", "no month has such a day");
    refused("@reboot", "missed");
    refused("@fortnightly", "none of @hourly");
    refused(&"1,".repeat(200), "longer than");
}

/// A field of numbers, lists, ranges or steps.
fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => (min..=max).prop_map(|one| one.to_string()),
        1 => prop::collection::btree_set(min..=max, 1..4)
            .prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2..=20u32).prop_map(move |step| format!("*/{}", step.min(max))),
    ]
}

/// Lines; steps of days are left out, where others take a star for a restriction.
fn any_line() -> impl Strategy<Value = String> {
    let days = |min, max| field(min, max).prop_filter("no step of days", |text| !text.contains('/'));
    (field(0, 59), field(0, 23), days(1, 28), field(1, 12), days(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    // 2005 to 2045.
    (1_104_537_600i64..2_366_841_600).prop_map(|second| Timestamp::from_second(second).unwrap())
}

/// Right before a change of the offset.
fn near_a_change(zone: &TimeZone, from: Timestamp) -> Timestamp {
    let change = zone.following(from).find(|change| change.timestamp() > from);
    change.map_or(from, |change| change.timestamp() - SignedDuration::from_hours(5))
}

fn croner(text: &str) -> Cron {
    CronParser::builder().seconds(Seconds::Optional).build().parse(text).unwrap()
}

/// Whether two offsets hold within a day of `at`.
fn changes_near(zone: &TimeZone, at: Timestamp) -> bool {
    let from = at - SignedDuration::from_hours(30);
    zone.following(from).next().is_some_and(|change| change.timestamp() < at + SignedDuration::from_hours(30))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Where a line has one time a day, or every hour, croner's rule is ours, also on the days of a change; elsewhere the
    /// calendar is.
    #[test]
    fn croner_says_the_same(text in any_line(), name in prop::sample::select(&ZONES[..]), from in any_instant(), near in any::<bool>()) {
        let (zone, line) = (zone(name), line(&text));
        let from = if near { near_a_change(&zone, from) } else { from };
        let words: Vec<&str> = text.split(' ').collect();
        let is_single = words[..2].iter().all(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        let theirs = croner(&text);
        let mut at = from;
        for _ in 0..8 {
            let ours = line.next(&zone, at);
            let next = theirs.find_next_occurrence(&at.to_zoned(zone.clone()), false);
            let Ok(next) = next else { break };
            let next = next.timestamp();
            let Some(ours) = ours else { panic!("{text} in {name} after {at}: nothing, and {next}") };
            // croner looks no further than two hours for the end of a gap, and looks for the date after it.
            let is_theirs = (is_single && name != "Pacific/Apia" && words[2..] == ["*"; 3]) || words[1] == "*";
            if is_theirs || !(changes_near(&zone, ours) || changes_near(&zone, next)) {
                prop_assert_eq!(ours, next, "{} in {} after {}", text, name, at);
            }
            at = ours;
        }
    }

    /// The stated rule, by a walk through all minutes of four days around a change.
    #[test]
    fn each_time_of_day_runs_once(minute in field(0, 59), hour in field(0, 23), name in prop::sample::select(&ZONES[..]), from in any_instant()) {
        let zone = zone(name);
        let from = near_a_change(&zone, from);
        let until = from + SignedDuration::from_hours(48);
        let line = line(&format!("{minute} {hour} * * *"));
        let mut ours = Vec::new();
        let mut at = from;
        while let Some(next) = line.next(&zone, at).filter(|next| *next <= until) {
            prop_assert!(next > at);
            ours.push(next);
            at = next;
        }
        let walked = walked(&minute, &hour, &zone, from, until);
        let differs = ours.iter().zip(&walked).find(|(ours, walked)| ours != walked);
        prop_assert_eq!((ours.len(), differs), (walked.len(), None));
    }
}

/// The instants of the times of day, looked for one by one: of the civil minutes around, those the fields name, each at the first
/// instant whose clock shows it or, if none does, at the first whose clock shows a later time.
fn walked(minute: &str, hour: &str, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let minutes = |from: Timestamp| (0..).map(move |n| from + SignedDuration::from_mins(n));
    let wide = from - SignedDuration::from_hours(48);
    let wide = Timestamp::from_second(wide.as_second().div_euclid(60) * 60).unwrap();
    let shown: Vec<(Timestamp, DateTime)> =
        minutes(wide).take_while(|at| *at <= until).map(|at| (at, zone.to_datetime(at))).collect();
    let is_named = |time: DateTime| named(minute, time.minute()) && named(hour, time.hour());
    let mut instants: Vec<Timestamp> = Vec::new();
    if hour == "*" {
        instants.extend(shown.iter().filter(|(_, time)| is_named(*time)).map(|(at, _)| *at));
    } else {
        let mut highest = shown[0].1;
        for (at, time) in &shown[1..] {
            // Civil minutes that begin with this instant: none while an hour is repeated, many after a gap.
            while highest < *time {
                highest = highest.checked_add(1.minute()).unwrap();
                if is_named(highest) {
                    instants.push(*at);
                }
            }
        }
    }
    instants.dedup();
    instants.retain(|at| *at > from && *at <= until);
    instants
}

/// Whether a field of the strategy above names this value.
fn named(field: &str, value: i8) -> bool {
    let number = |text: &str| i8::from_str(text).unwrap();
    field.split(',').any(|part| match (part.split_once("*/"), part.split_once('-')) {
        (Some((_, step)), _) => value % number(step) == 0,
        (_, Some((from, to))) => (number(from)..=number(to)).contains(&value),
        _ => part == "*" || number(part) == value,
    })
}
