//! A year of a site in simulated time: what is due is decided as the daemon does, and compared with what a table says must run.
//!
//! The table does not know how it is decided. It walks through all minutes of the year, reads the clock on the wall by fields of its
//! own, and knows in which windows which job cannot begin, and whether it is owed a run afterwards.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::{Book, JobRecord, Moment, Pause, RunVerdict};
use crate::schedule::{Job, Kind, On, Role, Schedule};

/// Where minutes are counted from.
const BEGIN: &str = "2027-01-01T00:00:00Z";
const MINUTES: i64 = 365 * 24 * 60;
/// How long a run takes that has the site to itself; others take none.
const RUN_MINUTES: i64 = 2;
/// What waits for one another after a window may begin so much later.
const QUEUE_MINUTES: i64 = 15;

fn at(minute: i64) -> Timestamp {
    BEGIN.parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

/// The minute of an instant of this year, by true time.
fn minute(text: &str) -> i64 {
    let at: Timestamp = format!("2027-{text}:00Z").parse().unwrap();
    at.duration_since(BEGIN.parse::<Timestamp>().unwrap()).as_mins()
}

/// A job, and how a person reads its line.
struct Row {
    name: &'static str,
    kind: Kind,
    line: Option<&'static str>,
    zone: &'static str,
    on: On,
    delay: i64,
    /// Whether it names hours: then each time is one, and none is left out.
    is_time_of_day: bool,
    reads: fn(DateTime) -> bool,
}

const ROWS: [Row; 7] = [
    Row {
        name: "capture",
        kind: Kind::Capture,
        line: Some("17 * * * *"),
        zone: "Europe/Berlin",
        on: On::Live,
        delay: 0,
        is_time_of_day: false,
        reads: |time| time.minute() == 17,
    },
    Row {
        name: "rehearse",
        kind: Kind::Rehearse,
        line: Some("5,35 * * * *"),
        zone: "UTC",
        on: On::Spare,
        delay: 0,
        is_time_of_day: false,
        reads: |time| time.minute() == 5 || time.minute() == 35,
    },
    Row {
        name: "nightly",
        kind: Kind::Verify,
        line: Some("30 2 * * *"),
        zone: "Europe/Berlin",
        on: On::Both,
        delay: 0,
        is_time_of_day: true,
        reads: |time| (time.hour(), time.minute()) == (2, 30),
    },
    Row {
        name: "prune",
        kind: Kind::Prune,
        line: Some("40 1 * * *"),
        zone: "America/New_York",
        on: On::Spare,
        delay: 0,
        is_time_of_day: true,
        reads: |time| (time.hour(), time.minute()) == (1, 40),
    },
    Row {
        name: "check",
        kind: Kind::Check,
        line: Some("0 5 * * *"),
        zone: "UTC",
        on: On::Both,
        delay: 7,
        is_time_of_day: true,
        reads: |time| (time.hour(), time.minute()) == (5, 7),
    },
    Row {
        name: "whole",
        kind: Kind::Verify,
        line: Some("50 6 1 * Mon"),
        zone: "UTC",
        on: On::Both,
        delay: 0,
        is_time_of_day: true,
        reads: |time| {
            let is_monday = time.weekday() == jiff::civil::Weekday::Monday;
            (time.hour(), time.minute()) == (6, 50) && (time.day() == 1 || is_monday)
        },
    },
    // After each good end of `check`, and so in the table with its times.
    Row {
        name: "report",
        kind: Kind::Report,
        line: None,
        zone: "UTC",
        on: On::Both,
        delay: 0,
        is_time_of_day: true,
        reads: |time| (time.hour(), time.minute()) == (5, 7),
    },
];

fn schedule() -> Schedule {
    let minute = Duration::from_secs(60);
    let job = |row: &Row| Job {
        name: row.name.to_owned(),
        kind: row.kind,
        at: row.line.map(|line| line.parse().unwrap()),
        zone: TimeZone::get(row.zone).unwrap(),
        on: row.on,
        after: if row.line.is_none() { vec!["check".to_owned()] } else { Vec::new() },
        delay: minute * u32::try_from(row.delay).unwrap(),
        timeout: minute * 60,
        retries: 2,
        retry_after: minute,
        failures_allowed: 0,
        late_after: minute * 60,
        arguments: Vec::new(),
    };
    Schedule::new(ROWS.iter().map(|row| (row.name.to_owned(), job(row))).collect()).unwrap()
}

/// What happens in the year, by true time.
enum Happening {
    /// The daemon is killed, and started again: what ran is lost.
    Down(&'static str, &'static str),
    /// The machine sleeps: what ran goes on afterwards.
    Asleep(&'static str, &'static str),
    /// The clock on the wall is set by so many minutes.
    Set(&'static str, i64),
    /// The site becomes something else.
    Becomes(&'static str, Role),
    /// A person pauses a job.
    Paused(&'static str, &'static str, &'static str),
    /// Runs of a job fail that begin then.
    Fails(&'static str, &'static str, &'static str),
}
use Happening::{Asleep, Becomes, Down, Fails, Paused, Set};

const HAPPENINGS: [Happening; 19] = [
    Becomes("01-01T00:00", Role::Live),
    Down("01-14T03:40", "01-14T07:40"),
    // Over a night and a weekly run, and over nothing at all.
    Down("02-01T00:40", "02-01T09:40"),
    Down("02-03T10:20", "02-03T10:25"),
    Asleep("02-19T18:40", "02-22T08:40"),
    Set("03-02T10:30", 150),
    Set("03-09T10:30", -150),
    // Killed within a run: it is tried again a minute after the start.
    Down("03-16T10:18", "03-16T10:40"),
    // On the day on which Berlin has no 02:30.
    Down("03-28T00:40", "03-28T01:40"),
    Paused("capture", "04-02T08:30", "04-02T13:40"),
    // Three runs for one time, then none until the next.
    Fails("check", "04-05T05:00", "04-05T06:00"),
    Fails("capture", "04-08T05:17", "04-08T05:18"),
    Becomes("04-10T10:00", Role::Between),
    Becomes("04-10T12:40", Role::Spare),
    Down("05-20T05:00", "05-20T06:40"),
    Becomes("09-01T20:00", Role::Between),
    Becomes("09-01T22:40", Role::Live),
    Set("11-11T11:11", -1),
    Asleep("12-24T12:40", "12-27T12:40"),
];

/// What holds at a minute.
#[derive(Clone, Copy)]
struct World {
    wall: i64,
    role: Role,
    is_up: bool,
    is_awake: bool,
}

fn world(true_minute: i64) -> World {
    let mut world = World { wall: true_minute, role: Role::Between, is_up: true, is_awake: true };
    let is_within = |from: &str, to: &str| (minute(from)..minute(to)).contains(&true_minute);
    for happening in &HAPPENINGS {
        match happening {
            Down(from, to) => world.is_up &= !is_within(from, to),
            Asleep(from, to) => world.is_awake &= !is_within(from, to),
            Set(when, by) if true_minute >= minute(when) => world.wall += by,
            Becomes(when, role) if true_minute >= minute(when) => world.role = *role,
            _ => {}
        }
    }
    world
}

fn fails(job: &str, true_minute: i64) -> bool {
    HAPPENINGS.iter().any(|happening| match happening {
        Fails(name, from, to) => *name == job && (minute(from)..minute(to)).contains(&true_minute),
        _ => false,
    })
}

fn is_paused(job: &str, true_minute: i64) -> bool {
    HAPPENINGS.iter().any(|happening| match happening {
        Paused(name, from, to) => *name == job && (minute(from)..minute(to)).contains(&true_minute),
        _ => false,
    })
}

/// The minutes in which the table says that a job begins, without other tries.
fn table(row: &Row, worlds: &[World]) -> Vec<i64> {
    let zone = TimeZone::get(row.zone).unwrap();
    let mut begins = Vec::new();
    let mut is_owed = false;
    let mut before = worlds[0].wall;
    let mut highest = zone.to_datetime(at(before));
    for (true_minute, world) in (0..).zip(worlds) {
        if world.wall < before {
            highest = zone.to_datetime(at(world.wall - 1));
        }
        // All that the clock has shown since, also what it jumped over.
        for wall in (before + 1).min(world.wall)..=world.wall {
            let shown = zone.to_datetime(at(wall));
            if !row.is_time_of_day {
                is_owed |= (row.reads)(shown);
            }
            while row.is_time_of_day && highest < shown {
                highest = highest.checked_add(1.minute()).unwrap();
                is_owed |= (row.reads)(highest);
            }
        }
        before = world.wall;
        let is_here = row.on.includes(world.role);
        if !is_here && world.role != Role::Between {
            is_owed = false;
        }
        if is_owed && is_here && world.is_up && world.is_awake && !is_paused(row.name, true_minute) {
            begins.push(true_minute);
            is_owed = false;
        }
    }
    begins
}

/// A site whose jobs are decided on as the daemon does.
struct Site {
    schedule: Schedule,
    book: Book,
    /// What is written down.
    disk: BTreeMap<String, JobRecord>,
    /// What runs, until when by true time.
    running: BTreeMap<String, i64>,
    role: Role,
    begun: BTreeMap<String, Vec<i64>>,
    wake: Timestamp,
    looks: u64,
}

impl Site {
    fn save(&mut self, name: &str) {
        self.disk.extend(self.book.records.get(name).map(|record| (name.to_owned(), record.clone())));
    }

    fn minute(&mut self, true_minute: i64, world: World, before: World) {
        if !world.is_up {
            self.running.clear();
            self.role = Role::Between;
            self.book = Book::default();
            return;
        }
        if !world.is_awake {
            self.running.values_mut().for_each(|end| *end += 1);
            return;
        }
        let now = at(world.wall);
        let is_new = !before.is_up;
        if is_new {
            self.book.records = self.disk.clone();
            self.book.lose(now).iter().for_each(|name| self.save(name));
        }
        let ended: Vec<String> =
            self.running.iter().filter(|(_, end)| **end <= true_minute).map(|(name, _)| name.clone()).collect();
        for name in &ended {
            self.running.remove(name);
            self.end(name, now);
        }
        let is_told = self.pause(true_minute, now);
        let is_changed = is_new || is_told || !ended.is_empty() || world.role != self.role;
        // The daemon looks at the clock every few seconds; here only when something can follow, so that its waiting is tried, too.
        let is_time = now >= self.wake || now < self.wake - SignedDuration::from_mins(61);
        if is_changed || is_time || !before.is_awake {
            self.look(true_minute, Moment { now, role: world.role, holder: None });
        }
    }

    fn end(&mut self, name: &str, now: Timestamp) {
        let begun = *self.begun[name].last().unwrap();
        let (verdict, what) = match fails(name, begun) {
            true => (RunVerdict::Failed, "no"),
            false => (RunVerdict::Done, "yes"),
        };
        self.book.end(name, verdict, what.to_owned(), None, now).unwrap();
        self.save(name);
    }

    /// A person's word is told once; the pause ends by itself.
    fn pause(&mut self, true_minute: i64, now: Timestamp) -> bool {
        let mut is_told = false;
        for happening in &HAPPENINGS {
            if let Paused(name, from, to) = happening
                && minute(from) == true_minute
            {
                let until = now + SignedDuration::from_mins(minute(to) - minute(from));
                let (operator, why) = ("me".to_owned(), "why".to_owned());
                self.book.records.get_mut(*name).unwrap().pause = Some(Pause { since: now, until, operator, why });
                self.save(name);
                is_told = true;
            }
        }
        is_told
    }

    fn look(&mut self, true_minute: i64, moment: Moment) {
        self.looks += 1;
        let is_other = self.role != moment.role;
        self.role = moment.role;
        for name in self.book.recount(&self.schedule, &moment) {
            self.save(&name);
        }
        if is_other {
            let names: Vec<String> = self.book.records.keys().cloned().collect();
            names.iter().for_each(|name| self.save(name));
        }
        while let Some(start) = self.book.next_start(&self.schedule, &moment) {
            assert!(!self.running.contains_key(&start.job), "two runs of {} at a time", start.job);
            self.book.begin(&start, moment.now);
            self.save(&start.job);
            self.begun.entry(start.job.clone()).or_default().push(true_minute);
            let is_alone = self.schedule.job(&start.job).unwrap().kind.is_alone();
            if is_alone {
                let others = self.running.keys().filter(|name| self.schedule.job(name).unwrap().kind.is_alone());
                assert_eq!(others.count(), 0, "two jobs at a time that need the site to themselves");
                self.running.insert(start.job, true_minute + RUN_MINUTES);
            } else {
                self.end(&start.job, moment.now);
            }
        }
        self.wake = self.book.wake_at(&self.schedule, &moment, moment.now + SignedDuration::from_hours(1));
    }
}

fn lived(worlds: &[World]) -> Site {
    let mut site = Site {
        schedule: schedule(),
        book: Book::default(),
        disk: BTreeMap::new(),
        running: BTreeMap::new(),
        role: Role::Between,
        begun: BTreeMap::new(),
        wake: Timestamp::MIN,
        looks: 0,
    };
    let mut before = worlds[0];
    for (true_minute, world) in (0..).zip(worlds) {
        site.minute(true_minute, *world, before);
        before = *world;
    }
    site
}

/// Tries after a failure that the table says besides: a minute after its end, then two.
fn other_tries() -> BTreeMap<&'static str, Vec<i64>> {
    BTreeMap::from([
        ("capture", vec![minute("03-16T10:41"), minute("04-08T05:20")]),
        ("check", vec![minute("04-05T05:08"), minute("04-05T05:10")]),
    ])
}

#[test]
fn through_a_year_of_disturbances_every_job_runs_when_the_table_says() {
    let worlds: Vec<World> = (0..MINUTES).map(world).collect();
    let site = lived(&worlds);
    let mut tries = other_tries();
    for row in &ROWS {
        let mut expected: BTreeSet<i64> = table(row, &worlds).into_iter().collect();
        expected.extend(tries.remove(row.name).unwrap_or_default());
        if row.name == "report" {
            // It follows a `check` that was good.
            expected.remove(&minute("04-05T05:07"));
        }
        let expected: Vec<i64> = expected.into_iter().collect();
        let begun = &site.begun[row.name];
        for (must, did) in expected.iter().zip(begun) {
            let is_right =
                must == did || (must..=&(must + QUEUE_MINUTES)).contains(&did) && is_after_a_window(*must, &worlds);
            assert!(is_right, "{}: the table says {}, it ran {}", row.name, at(*must), at(*did));
        }
        assert_eq!(begun.len(), expected.len(), "{}", row.name);
    }
    assert!(site.looks < 120_000, "{} looks: it wakes when something is due, and hourly", site.looks);
}

/// Whether several may have been owed a run when this minute came.
fn is_after_a_window(true_minute: i64, worlds: &[World]) -> bool {
    let index = usize::try_from(true_minute).unwrap();
    let (Some(now), Some(before)) = (worlds.get(index), worlds.get(index.saturating_sub(1))) else { return false };
    let can = |world: &World| world.is_up && world.is_awake;
    can(now) && (!can(before) || now.role != before.role || (now.wall - before.wall).abs() > 1)
}

#[test]
fn the_table_says_what_a_person_would() {
    let worlds: Vec<World> = (0..MINUTES).map(world).collect();
    let of = |name: &str, day: &str| -> Vec<String> {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let begins = table(row, &worlds).into_iter().map(|minute| at(minute).to_string());
        begins.filter(|at| at.starts_with(&format!("2027-{day}"))).map(|at| at[11..16].to_owned()).collect()
    };
    assert_eq!(
        of("nightly", "03-28"),
        ["01:40"],
        "there is no 02:30, and at 01:00 UTC, when it would run, the daemon is down"
    );
    assert_eq!(of("nightly", "10-31"), ["00:30"], "02:30 comes twice, and counts once");
    assert_eq!(of("capture", "10-31").len(), 24, "every hour there is");
    assert_eq!(of("prune", "03-14"), Vec::<String>::new(), "the site is live");
    assert_eq!(of("capture", "01-14").iter().filter(|at| *at == "07:40").count(), 1);
    assert_eq!(of("capture", "01-14").len(), 24 - 4 + 1, "four were missed, one is made up for");
    assert_eq!(
        of("capture", "03-02")[10..13],
        ["10:17", "10:30", "10:47"],
        "what the clock jumped over is made up for at once"
    );
    assert_eq!(of("capture", "03-09")[9..12], ["09:47", "11:17", "12:17"], "set back, it is counted from anew");
    assert_eq!(of("capture", "04-11"), Vec::<String>::new(), "the spare owes none");
    assert_eq!(of("rehearse", "04-10").first().map(String::as_str), Some("12:40"));
    assert_eq!(of("whole", "02-01"), ["09:40"], "a Monday and a first, and one run for it");
}
