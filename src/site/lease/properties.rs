//! What holds of one site whatever it is told: by the other, by a witness that answers anything, by people in any order.

#![cfg(test)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Us), Just(Side::Them)]
}

fn term() -> impl Strategy<Value = Term> {
    (1_u64..5).prop_map(Term)
}

fn point() -> impl Strategy<Value = Option<PointId>> {
    proptest::option::of((1_u64..3).prop_map(|term| PointId { term, seq: 1 }))
}

fn witness() -> impl Strategy<Value = WitnessId> {
    prop_oneof![20 => Just(WitnessId(1)), 1 => Just(WitnessId(2))]
}

fn seen() -> impl Strategy<Value = Seen> {
    let held = side().prop_map(Standing::Held);
    let released = (proptest::option::of(side()), point()).prop_map(|(to, point)| Standing::Released { to, point });
    let ttl = Duration::from_secs(60);
    (1_u64..6, witness(), term(), prop_oneof![3 => held, 1 => released], 0_u128..8).prop_map(
        move |(revision, witness, term, standing, nonce)| Seen {
            revision: Revision(revision),
            witness,
            term,
            standing,
            seq: revision,
            nonce: Nonce(nonce),
            ttl,
        },
    )
}

/// What may happen; answers are to the request that is under way, or to one that is not.
#[derive(Clone, Debug)]
enum Happens {
    Told(What),
    Answered(Answer, bool),
    /// The witness shows what was written last.
    Echoed,
    /// The other site keeps its promise.
    Promised,
    Restarted,
}

fn happens() -> impl Strategy<Value = Happens> {
    let pace = prop_oneof![Just(Pace::Wait), Just(Pace::Force)];
    let acquire = (proptest::option::of(term()), pace).prop_map(|(if_term, pace)| Command::Acquire { if_term, pace });
    let simple =
        [Command::Join, Command::Restore, Command::Cancel, Command::Fence, Command::LiftFence, Command::Rejoin];
    let command = prop_oneof![
        6 => proptest::sample::select(simple.to_vec()),
        3 => acquire,
        1 => proptest::option::of(side()).prop_map(|to| Command::Release { to }),
        1 => Just(Command::Drill),
    ];
    let gate = (proptest::sample::select(vec![Name::Live, Name::Fenced, Name::Standby]), term())
        .prop_map(|(name, highest)| FenceProof::Gate { name, highest });
    let done = prop_oneof![
        point().prop_map(Done::Restored),
        prop_oneof![Just(FenceProof::Hook), gate].prop_map(Done::FenceProven),
        point().prop_map(Done::Drained),
        proptest::sample::select(vec![Done::Started, Done::Unfenced, Done::FenceUnproven, Done::StartFailed]),
    ];
    let answer = prop_oneof![
        5 => seen().prop_map(Answer::Record),
        4 => (2_u64..6).prop_map(|revision| Answer::Won(Revision(revision))),
        2 => proptest::sample::select(vec![Answer::Lost, Answer::Unknown, Answer::NoRecord]),
    ];
    let peer =
        (term(), proptest::option::of(witness())).prop_map(|(highest, witness)| What::PeerSays { highest, witness });
    let asks =
        term().prop_map(|term| What::PeerAsks(PeerRequest { id: RequestId(9), term, ttl: Duration::from_secs(60) }));
    prop_oneof![
        6 => Just(Happens::Told(What::Tick)),
        5 => command.prop_map(|command| Happens::Told(What::Command(command))),
        6 => done.prop_map(|done| Happens::Told(What::Done(done))),
        6 => (answer, proptest::bool::weighted(0.9)).prop_map(|(answer, is_due)| Happens::Answered(answer, is_due)),
        4 => Just(Happens::Echoed),
        1 => Just(Happens::Promised),
        1 => prop_oneof![peer, asks, Just(What::ClockJumped)].prop_map(Happens::Told),
        1 => Just(Happens::Restarted),
    ]
}

/// One site, and what its surroundings remember of it.
struct Site {
    lease: Lease,
    now: BootInstant,
    nonce: u128,
    disk: Option<Durable>,
    asked: Option<RequestId>,
    written: Option<(Revision, Proposal)>,
    plea: Option<RequestId>,
    /// When anything was last sent that can make the lease longer.
    sent: Option<BootInstant>,
    opened: usize,
    /// The term in which what is served was last started.
    started: Option<Term>,
}

impl Site {
    fn new() -> Self {
        let (lease, now) =
            (Lease::start(Timing::default(), None, BootInstant(Duration::ZERO)), BootInstant(Duration::ZERO));
        let (disk, asked, written, plea, sent) = (None, None, None, None, None);
        Site { lease, now, nonce: 100, disk, asked, written, plea, sent, opened: 0, started: None }
    }

    fn happens(&mut self, after_ms: u64, what: Happens) {
        self.now = self.now + Duration::from_millis(after_ms);
        match what {
            Happens::Told(what) => self.told(what),
            Happens::Answered(answer, true) => {
                if let Some(id) = self.asked.take() {
                    self.told(What::Answered(id, answer));
                }
            }
            Happens::Answered(answer, false) => {
                let (before, late) = (self.lease, What::Answered(RequestId(u64::MAX), answer));
                self.told(late);
                assert_eq!(self.lease.highest(), before.highest(), "an answer to nothing says nothing");
            }
            Happens::Echoed => {
                if let (Some(id), Some((revision, proposal))) = (self.asked, self.written) {
                    self.asked = None;
                    let Proposal { term, standing, seq, nonce, ttl } = proposal;
                    let revision = Revision(revision.0 + 1);
                    let seen = Seen { revision, witness: WitnessId(1), term, standing, seq, nonce, ttl };
                    self.told(What::Answered(id, Answer::Record(seen)));
                }
            }
            Happens::Promised => {
                if let Some(id) = self.plea.take() {
                    self.told(What::PeerPromised(id));
                }
            }
            Happens::Restarted => {
                self.lease = Lease::start(Timing::default(), self.disk, self.now);
                (self.asked, self.plea, self.sent) = (None, None, None);
                assert!(!self.lease.gate_is_open(self.now), "it starts closed");
            }
        }
    }

    fn told(&mut self, what: What) {
        let (before, at) = (self.lease, self.now);
        self.nonce += 1;
        let (lease, actions) = step(before, Event { at, fresh: Nonce(self.nonce), what });
        for action in &actions {
            self.act(*action, at);
        }
        let restarted = |durable| Lease::start(Timing::default(), durable, at);
        assert_eq!(restarted(self.disk), restarted(Some(lease.durable())), "what a restart depends on is saved");
        self.lease = lease;
        self.opened += usize::from(lease.name() == Name::Live && before.name() != Name::Live);
        if before.name() == Name::Starting && matches!(what, What::Done(Done::Started)) {
            self.started = before.term();
        }
        self.check(before, what);
    }

    fn act(&mut self, action: Action, at: BootInstant) {
        match action {
            Action::Save(durable) => self.disk = Some(durable),
            Action::Read(id) | Action::Write(id, ..) if self.asked.is_some() => panic!("{id:?} beside another request"),
            Action::Read(id) => self.asked = Some(id),
            Action::Write(id, expected, proposal) => {
                let is_new = self.written.is_none_or(|(_, written)| written.nonce != proposal.nonce);
                if is_new {
                    self.sent = Some(at);
                }
                (self.asked, self.written) = (Some(id), Some((expected, proposal)));
            }
            Action::AskPeer(request) => (self.plea, self.sent) = (Some(request.id), Some(at)),
            _ => {}
        }
    }

    fn check(&self, before: Lease, what: What) {
        let (lease, now) = (self.lease, self.now);
        assert!(lease.highest() >= before.highest(), "terms never fall");
        assert!(lease.term() <= Some(lease.highest()), "what is held was seen");
        let (timing, limit) = (Timing::default(), Duration::from_secs(5));
        if lease.gate_is_open(now) {
            assert_eq!(lease.name(), Name::Live);
            let sent = self.sent.expect("something was renewed");
            assert!(now + timing.drain() < sent + timing.ttl(), "open longer than a renewal reaches");
        }
        if lease.permits(now, limit) {
            assert!(matches!(lease.name(), Name::Live | Name::Draining));
            let sent = self.sent.expect("something was renewed");
            assert!(now + limit + timing.drain() < sent + timing.ttl(), "a write that outlives the lease");
        }
        let waits = |name| matches!(name, Name::Fenced | Name::Stale);
        if waits(before.name()) && !matches!(what, What::Command(_)) {
            assert!(waits(lease.name()), "{} became {} by itself", before.name(), lease.name());
        }
        if lease.name() == Name::Live && before.name() != Name::Live {
            let done = matches!(what, What::Done(Done::Started | Done::Unfenced));
            assert!(done, "live without the application having been looked at: {what:?}");
            assert_eq!(self.started, lease.term(), "live in a term in which nothing was ever started");
        }
        assert!(
            !matches!(lease.name(), Name::Waiting | Name::Acquiring) || !lease.has_drill(),
            "a drill beside a failover"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_site_is_told_it_opens_only_inside_its_lease(
        history in proptest::collection::vec((0_u64..20_000, happens()), 1..80)
    ) {
        let mut site = Site::new();
        for (after_ms, what) in history {
            site.happens(after_ms, what);
        }
    }
}

/// The way most sites go: joined, released to, restored, taken, started.
#[test]
fn a_site_that_is_told_the_right_things_goes_live() {
    let mut site = Site::new();
    let standing = Standing::Released { to: Some(Side::Us), point: None };
    let (witness, ttl) = (WitnessId(1), Duration::from_secs(60));
    let seen = Seen { revision: Revision(1), witness, term: Term(3), standing, seq: 1, nonce: Nonce(1), ttl };
    let record = || Happens::Answered(Answer::Record(seen), true);
    let acquire = Command::Acquire { if_term: Some(Term(3)), pace: Pace::Wait };
    let command = |command| Happens::Told(What::Command(command));
    for what in [Happens::Told(What::Tick), record(), command(Command::Join), command(Command::Restore)] {
        site.happens(10, what);
    }
    for what in [Happens::Told(What::Done(Done::Restored(None))), command(acquire)] {
        site.happens(10, what);
    }
    assert_eq!(site.lease.name(), Name::Acquiring);
    site.happens(10, Happens::Answered(Answer::Won(Revision(2)), true));
    assert_eq!((site.lease.name(), site.lease.term()), (Name::Starting, Some(Term(4))));
    assert!(!site.lease.gate_is_open(site.now));
    site.happens(30_000, Happens::Told(What::Done(Done::Started)));
    assert!(site.lease.gate_is_open(site.now));
    let later = |seconds| site.now + Duration::from_secs(seconds);
    assert!(site.lease.gate_is_open(later(19)) && !site.lease.gate_is_open(later(20)), "50 s after it was sent");
    assert!(site.lease.permits(later(14), ttl / 12) && !site.lease.permits(later(15), ttl / 12));
}

/// A site that has let go of term 3, with its final point, for the other one.
fn released() -> (Site, Seen) {
    let mut site = Site::new();
    site.lease = Lease::start(
        Timing::default(),
        Some(Durable { highest: Term(3), last: Name::Released, witness: Some(WitnessId(1)) }),
        site.now,
    );
    site.disk = Some(site.lease.durable());
    let standing = Standing::Released { to: Some(Side::Them), point: Some(PointId { term: 3, seq: 7 }) };
    let (witness, ttl) = (WitnessId(1), Duration::from_secs(60));
    let seen = Seen { revision: Revision(5), witness, term: Term(3), standing, seq: 1, nonce: Nonce(1), ttl };
    site.happens(10, Happens::Told(What::Tick));
    site.happens(10, Happens::Answered(Answer::Record(seen), true));
    assert_eq!(site.lease.name(), Name::Released);
    (site, seen)
}

const TAKE_BACK: Happens = Happens::Told(What::Command(Command::Acquire { if_term: None, pace: Pace::Wait }));

/// The other site took it before this one had read so, and a person said at the same time to take it back. This site stayed
/// RELEASED: no command led out of that, and what the other site let go later was taken with the data of before.
#[test]
fn a_lease_that_is_taken_back_too_late_is_the_other_sites_and_nothing_is_left_to_take_back() {
    let (_, seen) = released();
    let (standing, nonce) = (Standing::Held(Side::Them), Nonce(2));
    let taken = Seen { revision: Revision(6), term: Term(4), standing, nonce, ..seen };
    let standing = Standing::Released { to: Some(Side::Us), point: Some(PointId { term: 4, seq: 9 }) };
    for later in [taken, Seen { revision: Revision(7), standing, ..taken }] {
        // The write of the take-back is lost; or a read that was under way shows what happened before it is sent.
        for is_reading in [false, true] {
            let (mut site, _) = released();
            if is_reading {
                site.happens(20_000, Happens::Told(What::Tick));
            }
            site.happens(10, TAKE_BACK);
            if !is_reading {
                assert_eq!(site.lease.name(), Name::Acquiring);
                site.happens(10, Happens::Answered(Answer::Lost, true));
            }
            site.happens(10, Happens::Answered(Answer::Record(later), true));
            assert_eq!((site.lease.name(), site.lease.highest()), (Name::Standby, Term(4)));
            site.happens(10, TAKE_BACK);
            assert_eq!(site.lease.name(), Name::Standby, "its data is of the term before");
            site.happens(10, Happens::Told(What::Command(Command::Restore)));
            assert_eq!(site.lease.name(), Name::Restoring);
        }
    }
}

/// Told by the other site's gate before the record was read.
#[test]
fn who_hears_of_a_later_term_from_the_other_site_has_nothing_to_take_back() {
    let says = || Happens::Told(What::PeerSays { highest: Term(4), witness: Some(WitnessId(1)) });
    let (mut site, _) = released();
    site.happens(10, says());
    assert_eq!(site.lease.name(), Name::Standby);

    let (mut site, _) = released();
    site.happens(20_000, Happens::Told(What::Tick));
    site.happens(10, TAKE_BACK);
    site.happens(10, says());
    assert_eq!(site.lease.name(), Name::Waiting);
    site.happens(10, Happens::Told(What::Command(Command::Cancel)));
    assert_eq!(site.lease.name(), Name::Standby);
}

/// As a process left it that had not been mended: RELEASED, with the other site's term.
#[test]
fn a_site_that_was_left_released_in_the_other_sites_term_is_its_spare() {
    let theirs = [Standing::Held(Side::Them), Standing::Released { to: Some(Side::Us), point: None }];
    for standing in theirs {
        let (mut site, seen) = released();
        site.happens(20_000, Happens::Told(What::Tick));
        let seen = Seen { revision: Revision(6), standing, ..seen };
        site.happens(10, Happens::Answered(Answer::Record(seen), true));
        assert_eq!((site.lease.name(), site.lease.highest()), (Name::Standby, Term(3)));
    }
}

/// Nothing could be started, as the vault was away; the final point could not be taken for the same reason, and the operator gave the
/// handing over up. The gate opened: roles without login, sequences not jumped, and that for good.
#[test]
fn a_handing_over_that_is_given_up_before_anything_was_started_does_not_open_the_gate() {
    let command = |command| Happens::Told(What::Command(command));
    for is_restarted in [false, true] {
        let (mut site, seen) = released();
        let release = Command::Release { to: Some(Side::Them) };
        for what in [TAKE_BACK, Happens::Answered(Answer::Won(Revision(6)), true), command(release)] {
            site.happens(10, what);
        }
        assert_eq!(site.lease.name(), Name::Draining);
        if is_restarted {
            site.happens(10, Happens::Restarted);
            site.happens(10, Happens::Told(What::Tick));
            let (standing, nonce) = (Standing::Held(Side::Us), Nonce(2));
            let ours = Seen { revision: Revision(6), term: Term(4), standing, nonce, ..seen };
            site.happens(10, Happens::Answered(Answer::Record(ours), true));
            site.happens(10, Happens::Answered(Answer::Won(Revision(7)), true));
            assert_eq!(site.lease.name(), Name::Draining);
        }
        site.happens(10, command(Command::Cancel));
        assert_eq!(site.lease.name(), Name::Starting);
        site.happens(10, Happens::Told(What::Done(Done::Unfenced)));
        assert!(!site.lease.gate_is_open(site.now));
        site.happens(10, Happens::Told(What::Done(Done::Started)));
        assert!(site.lease.gate_is_open(site.now));
        // It has been live: what is under way there is only closed down, and that is undone.
        site.happens(10, command(release));
        site.happens(10, command(Command::Cancel));
        assert_eq!(site.lease.name(), Name::Closed);
        site.happens(10, Happens::Told(What::Done(Done::Unfenced)));
        assert!(site.lease.gate_is_open(site.now));
    }
}
