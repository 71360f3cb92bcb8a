//! Who is told what of an alarm, and when.
#![cfg(test)]

use super::*;
use crate::config::HttpSink;
use crate::config::reference::Reference;
use crate::report::sample::at;

fn sink(name: &str, when: &[When]) -> SinkConfig {
    let http = HttpSink { url: Reference::Env("X".to_owned()), ca_file: None };
    let repeat = Duration::from_secs(3_600);
    SinkConfig { name: name.to_owned(), kind: SinkKind::Webhook(http), when: when.to_vec(), repeat }
}

const BOTH: [When; 2] = [When::Alarm, When::Recovery];

fn alarm(key: &str, severity: Severity) -> Alarm {
    let (what, next) = (format!("{key} broke"), "Mend it.".to_owned());
    Alarm { key: key.to_owned(), severity, what, next, patience: Duration::ZERO, subject: Subject::Looking }
}

/// A look that saw everything.
fn seen() -> Unseen {
    Unseen::default()
}

/// Everything that is due, as `key change`; the sink takes it.
fn told(memory: &mut Memory, sink: &SinkConfig, now: &str) -> Vec<String> {
    let due = memory.due(sink, at(now));
    memory.taken(&sink.name, &due, at(now));
    due.iter().map(|notice| format!("{} {:?}", notice.key, notice.change)).collect()
}

#[test]
fn an_alarm_is_told_once_again_while_it_stands_and_once_when_it_is_over() {
    let ops = sink("ops", &BOTH);
    let sinks = [ops.clone()];
    let late = [alarm("point.late", Severity::Critical)];
    let mut memory = Memory::default();
    let mut look = |alarms: &[Alarm], now: &str| {
        memory.see(alarms, &seen(), &sinks, at(now));
        told(&mut memory, &ops, now)
    };
    assert_eq!(look(&[], "00:00:00"), [""; 0]);
    assert_eq!(look(&late, "00:01:00"), ["point.late Raised"]);
    assert_eq!(look(&late, "00:59:00"), [""; 0]);
    assert_eq!(look(&late, "01:01:00"), ["point.late Repeated"]);
    assert_eq!(look(&late, "01:02:00"), [""; 0]);
    assert_eq!(look(&[], "01:03:00"), ["point.late Recovered"]);
    assert_eq!(look(&[], "01:04:00"), [""; 0]);
    assert_eq!(look(&late, "01:05:00"), ["point.late Raised"], "it is another one");
    assert_eq!(memory.alarms.len(), 1);
}

#[test]
fn what_was_told_outlives_the_process_and_what_was_not_taken_is_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let ops = sink("ops", &BOTH);
    let late = [alarm("point.late", Severity::Critical)];
    let mut memory = Memory::load(folder.path()).unwrap();
    memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:00:00"));
    assert_eq!(memory.due(&ops, at("00:00:00")).len(), 1);
    memory.save(folder.path()).unwrap();
    // Killed after the sink took it and before that was written down.
    let mut memory = Memory::load(folder.path()).unwrap();
    memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:01:00"));
    assert_eq!(told(&mut memory, &ops, "00:01:00"), ["point.late Raised"]);
    memory.save(folder.path()).unwrap();
    let mut memory = Memory::load(folder.path()).unwrap();
    memory.see(&late, &seen(), std::slice::from_ref(&ops), at("00:02:00"));
    assert_eq!(told(&mut memory, &ops, "00:02:00"), [""; 0]);
    memory.see(&[], &seen(), std::slice::from_ref(&ops), at("00:03:00"));
    memory.save(folder.path()).unwrap();
    let mut memory = Memory::load(folder.path()).unwrap();
    assert_eq!(told(&mut memory, &ops, "00:03:00"), ["point.late Recovered"]);

    let path = folder.path().join("alarms.json");
    std::fs::write(&path, "{\"format\":2}").unwrap();
    assert!(matches!(Memory::load(folder.path()), Err(NotifyError::Unsupported { format: 2, .. })));
    std::fs::write(&path, "{\"format\":1").unwrap();
    assert!(matches!(Memory::peek(folder.path()), Err(NotifyError::Damaged { .. })));
    assert_eq!(Memory::load(folder.path()).unwrap(), Memory::default());
    assert!(folder.path().join("alarms.json.damaged").exists(), "it is kept for whoever asks why");
}

#[test]
fn a_sink_that_fails_is_left_alone_longer_and_longer_and_holds_up_no_other() {
    let (ops, pager) = (sink("ops", &BOTH), sink("pager", &BOTH));
    let sinks = [ops.clone(), pager.clone()];
    let mut memory = Memory::default();
    memory.see(&[alarm("point.late", Severity::Critical)], &seen(), &sinks, at("00:00:00"));
    memory.refused("ops", "refused", at("00:00:00"));
    assert_eq!(told(&mut memory, &pager, "00:00:00"), ["point.late Raised"]);
    assert!(memory.due(&ops, at("00:00:29")).is_empty() && !memory.due(&ops, at("00:00:30")).is_empty());
    memory.refused("ops", "refused", at("00:00:30"));
    assert!(memory.due(&ops, at("00:01:29")).is_empty() && !memory.due(&ops, at("00:01:30")).is_empty());
    for _ in 0..40 {
        memory.refused("ops", "refused", at("00:02:00"));
    }
    assert!(memory.due(&ops, at("00:31:59")).is_empty() && !memory.due(&ops, at("00:32:00")).is_empty());
    // A clock that was set back by a year must not silence a sink for a year.
    assert!(!memory.waits("ops", at("00:00:00")));
    // It came and went while nobody could be told: late is better than never.
    memory.see(&[], &seen(), &sinks, at("00:31:00"));
    assert_eq!(told(&mut memory, &ops, "00:32:00"), ["point.late Recovered"]);
    assert_eq!(told(&mut memory, &pager, "00:32:00"), ["point.late Recovered"]);
    memory.see(&[], &seen(), &sinks, at("00:33:00"));
    assert!(memory.alarms.is_empty() && memory.failing().next().is_none());
}

#[test]
fn what_comes_and_goes_while_a_sink_is_left_alone_or_before_it_is_told_is_told_late() {
    let folder = tempfile::tempdir().unwrap();
    let ops = sink("ops", &BOTH);
    let sinks = [ops.clone()];
    let failed = [alarm("job.capture.failed", Severity::Warning)];
    let mut memory = Memory::default();
    memory.see(&[alarm("point.late", Severity::Critical)], &seen(), &sinks, at("00:00:00"));
    for _ in 0..10 {
        memory.refused("ops", "refused", at("00:00:00"));
    }
    memory.see(&failed, &seen(), &sinks, at("00:10:00"));
    assert!(memory.due(&ops, at("00:10:00")).is_empty(), "it is left alone");
    memory.see(&[], &seen(), &sinks, at("00:20:00"));
    memory.save(folder.path()).unwrap();
    let mut memory = Memory::load(folder.path()).unwrap();
    memory.see(&[], &seen(), &sinks, at("00:30:00"));
    let [first, _] = memory.due(&ops, at("00:30:00")).try_into().unwrap();
    assert_eq!((first.since, first.until), (at("00:10:00"), Some(at("00:20:00"))));
    assert_eq!(told(&mut memory, &ops, "00:30:00"), ["job.capture.failed Recovered", "point.late Recovered"]);

    // Killed after it was written down and before anybody was told; it is over when the next process looks.
    memory.see(&failed, &seen(), &sinks, at("01:00:00"));
    memory.save(folder.path()).unwrap();
    let mut memory = Memory::load(folder.path()).unwrap();
    memory.see(&[], &seen(), &sinks, at("01:01:00"));
    assert_eq!(told(&mut memory, &ops, "01:01:00"), ["job.capture.failed Recovered"]);
    memory.see(&[], &seen(), &sinks, at("01:02:00"));
    assert!(memory.alarms.is_empty());

    // Killed likewise, and the next process does not see yet whether it stands.
    let failed = [Alarm { subject: Subject::job("ams", "capture"), ..failed[0].clone() }];
    let mut unseen = Unseen::default();
    unseen.add(failed[0].subject.clone());
    memory.see(&failed, &seen(), &sinks, at("02:00:00"));
    memory.see(&[], &unseen, &sinks, at("02:01:00"));
    assert_eq!(told(&mut memory, &ops, "02:01:00"), ["job.capture.failed Raised"]);
}

#[test]
fn of_what_got_worse_and_ended_while_a_sink_was_left_alone_it_is_told_the_end() {
    let ops = sink("ops", &BOTH);
    let sinks = [ops.clone()];
    let late = |severity| [alarm("proof.late", severity)];
    let mut memory = Memory::default();
    memory.see(&late(Severity::Warning), &seen(), &sinks, at("00:00:00"));
    assert_eq!(told(&mut memory, &ops, "00:00:00"), ["proof.late Raised"]);
    memory.refused("ops", "refused", at("00:01:00"));
    memory.see(&late(Severity::Critical), &seen(), &sinks, at("00:01:10"));
    assert!(memory.due(&ops, at("00:01:10")).is_empty(), "it is left alone");
    memory.see(&[], &seen(), &sinks, at("00:01:20"));
    memory.see(&[], &seen(), &sinks, at("00:02:00"));
    assert_eq!(told(&mut memory, &ops, "00:02:00"), ["proof.late Recovered"]);
    memory.see(&[], &seen(), &sinks, at("00:03:00"));
    assert!(memory.alarms.is_empty());
}

#[test]
fn what_is_raised_again_before_everybody_knows_that_it_was_over_is_another_one() {
    let (ops, pager) = (sink("ops", &BOTH), sink("pager", &BOTH));
    let sinks = [ops.clone(), pager.clone()];
    let unusable = [Alarm { patience: Duration::from_secs(300), ..alarm("vault.unusable", Severity::Critical) }];
    let mut memory = Memory::default();
    for now in ["00:00:00", "00:06:00"] {
        memory.see(&unusable, &seen(), &sinks, at(now));
    }
    assert_eq!(told(&mut memory, &ops, "00:06:00"), ["vault.unusable Raised"]);
    memory.refused("pager", "refused", at("00:06:00"));
    memory.see(&[], &seen(), &sinks, at("00:06:10"));
    assert_eq!(told(&mut memory, &ops, "00:06:10"), ["vault.unusable Recovered"]);
    memory.see(&unusable, &seen(), &sinks, at("00:06:20"));
    assert_eq!(told(&mut memory, &ops, "00:06:20"), [""; 0], "it has its patience");
    memory.see(&unusable, &seen(), &sinks, at("00:12:00"));
    assert_eq!(memory.due(&ops, at("00:12:00"))[0].since, at("00:06:20"));
    assert_eq!(told(&mut memory, &pager, "00:12:00"), ["vault.unusable Raised"]);
}

#[test]
fn what_cannot_be_known_for_a_moment_wakes_nobody_and_what_gets_worse_is_news() {
    let ops = sink("ops", &BOTH);
    let sinks = [ops.clone()];
    let mut memory = Memory::default();
    let unknown = Alarm { patience: Duration::from_secs(300), ..alarm("vault.unusable", Severity::Critical) };
    memory.see(std::slice::from_ref(&unknown), &seen(), &sinks, at("00:00:00"));
    assert_eq!(told(&mut memory, &ops, "00:04:59"), [""; 0]);
    memory.see(&[], &seen(), &sinks, at("00:04:59"));
    assert!(memory.alarms.is_empty(), "nobody heard of it, nobody hears that it is over");
    for now in ["01:00:00", "01:05:00"] {
        memory.see(std::slice::from_ref(&unknown), &seen(), &sinks, at(now));
    }
    assert_eq!(told(&mut memory, &ops, "01:05:00"), ["vault.unusable Raised"]);

    let mut memory = Memory::default();
    memory.see(&[alarm("proof.late", Severity::Warning)], &seen(), &sinks, at("00:00:00"));
    assert_eq!(told(&mut memory, &ops, "00:00:00"), ["proof.late Raised"]);
    memory.see(&[alarm("proof.late", Severity::Critical)], &seen(), &sinks, at("00:01:00"));
    assert_eq!(told(&mut memory, &ops, "00:01:00"), ["proof.late Raised"]);
    memory.see(&[alarm("proof.late", Severity::Warning)], &seen(), &sinks, at("00:02:00"));
    assert_eq!(told(&mut memory, &ops, "00:02:00"), [""; 0]);
}

#[test]
fn what_cannot_be_seen_is_neither_over_nor_told_again_and_what_is_configured_no_more_is_over() {
    let ops = sink("ops", &BOTH);
    let (mut memory, sinks) = (Memory::default(), [ops.clone()]);
    let late = |bucket: &str| Alarm {
        subject: Subject::Newest(Some(bucket.to_owned())),
        ..alarm(&format!("point.late.{bucket}"), Severity::Critical)
    };
    let failed = Alarm { subject: Subject::job("ams", "capture"), ..alarm("job.capture.failed", Severity::Warning) };
    let alarms = [late("a"), late("b"), failed.clone()];
    let mut look = |alarms: &[Alarm], unseen: &[Subject], now: &str| {
        let mut hidden = Unseen::default();
        unseen.iter().for_each(|subject| hidden.add(subject.clone()));
        memory.see(alarms, &hidden, &sinks, at(now));
        told(&mut memory, &ops, now)
    };
    let unseen = alarms.clone().map(|alarm| alarm.subject);
    assert_eq!(
        look(&alarms, &[], "00:00:00"),
        ["job.capture.failed Raised", "point.late.a Raised", "point.late.b Raised"]
    );
    // The vault is away, and the role is not known; a repetition is due meanwhile.
    assert_eq!(look(&[], &unseen, "00:01:00"), [""; 0]);
    assert_eq!(look(&[], &unseen, "02:00:00"), [""; 0]);
    // The source `b` is configured no more, and its vault is still away.
    assert_eq!(look(&[], &[unseen[0].clone(), unseen[2].clone()], "02:01:00"), ["point.late.b Recovered"]);
    assert_eq!(look(&[failed], &unseen[..1], "02:02:00"), ["job.capture.failed Repeated"], "it is seen to stand");
    assert_eq!(look(&[], &unseen[..1], "02:03:00"), ["job.capture.failed Recovered"]);
    assert_eq!(look(&[late("a")], &[], "02:04:00"), ["point.late.a Repeated"], "not raised: it never ended");
    assert_eq!(look(&[], &[], "02:05:00"), ["point.late.a Recovered"]);
}

#[test]
fn an_outage_is_told_after_its_patience_also_when_it_hides_what_began_with_it() {
    let ops = sink("ops", &BOTH);
    let (mut memory, sinks) = (Memory::default(), [ops.clone()]);
    let patience = Duration::from_secs(300);
    let unusable = Alarm { patience, ..alarm("vault.unusable", Severity::Critical) };
    let subject = Subject::status("fra");
    let unbelieved = Alarm { patience, subject, ..alarm("site.fra.unbelieved", Severity::Critical) };
    let mut unseen = Unseen::default();
    unseen.add(unbelieved.subject.clone());
    memory.see(std::slice::from_ref(&unbelieved), &unseen, &sinks, at("00:00:00"));
    assert_eq!(memory.standing(at("00:04:59")), [""; 0], "a ping does not say it either");
    assert_eq!(told(&mut memory, &ops, "00:00:00"), [""; 0]);
    let mut look = |alarms: &[Alarm], now: &str| {
        memory.see(alarms, &unseen, &sinks, at(now));
        told(&mut memory, &ops, now)
    };
    assert_eq!(look(std::slice::from_ref(&unusable), "00:01:00"), [""; 0]);
    assert_eq!(
        look(&[unusable], "00:06:00"),
        ["vault.unusable Raised"],
        "of the other nobody knows whether it stood so long"
    );
    assert_eq!(look(&[unbelieved], "00:07:00"), ["site.fra.unbelieved Raised", "vault.unusable Recovered"]);
    memory.see(&[], &unseen, &sinks, at("00:08:00"));
    assert_eq!(memory.standing(at("00:08:00")), ["site.fra.unbelieved broke"], "and says it as long as it may be so");
}

#[test]
fn a_sink_hears_what_it_wants_to_and_one_that_is_gone_is_not_waited_for() {
    let (alarms_only, recoveries) = (sink("a", &[When::Alarm]), sink("r", &[When::Recovery]));
    let sinks = [alarms_only.clone(), recoveries.clone()];
    let mut memory = Memory::default();
    memory.see(&[alarm("point.late", Severity::Critical)], &seen(), &sinks, at("00:00:00"));
    assert_eq!(told(&mut memory, &alarms_only, "00:00:00"), ["point.late Raised"]);
    assert_eq!(told(&mut memory, &recoveries, "00:00:00"), [""; 0]);
    memory.see(&[], &seen(), &sinks, at("00:01:00"));
    assert_eq!(told(&mut memory, &alarms_only, "00:01:00"), [""; 0]);
    assert!(memory.alarms.is_empty());
    let both = sink("b", &BOTH);
    memory.see(&[alarm("point.late", Severity::Critical)], &seen(), std::slice::from_ref(&both), at("00:02:00"));
    told(&mut memory, &both, "00:02:00");
    memory.see(&[], &seen(), &[], at("00:03:00"));
    assert!(memory.alarms.is_empty() && memory.sinks.is_empty(), "it is configured no more");
}
