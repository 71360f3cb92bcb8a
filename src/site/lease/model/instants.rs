//! Time as the model has it: it is always the same instant, and what lies behind it moves away.
//!
//! Every span is only ever compared with spans of the protocol. So an instant may be as far back as the longest of them
//! that it is compared with, and no farther; that makes the states finitely many without changing what they do.

#![cfg(test)]

use std::time::Duration;

use super::super::{BootInstant, Lease, Phase, Taking, Write};

/// What the clocks show, always.
pub const NOW: BootInstant = BootInstant(Duration::from_millis(1000));

/// Lets `span` pass on the clock of a site whose longest wait is `longest`.
pub fn pass(lease: &mut Lease, span: Duration, longest: Duration) {
    let ttl = lease.timing.ttl();
    let millisecond = Duration::from_millis(1);
    let drain = lease.timing.drain();
    // An end that is past is past.
    let end = |at: &mut BootInstant| *at = BootInstant(at.0.saturating_sub(span).max(NOW.0));
    let start = |at: &mut BootInstant, longest: Duration| {
        *at = BootInstant(at.0.saturating_sub(span).max(NOW.0.saturating_sub(longest)));
    };
    if let Some(until) = lease.held_mut().and_then(|held| held.valid_until.as_mut()) {
        end(until);
    }
    if let Some(until) = &mut lease.promised_until {
        end(until);
    }
    lease.promised_until.take_if(|until| *until == NOW);
    if let Some(asked) = &mut lease.asked {
        // Compared with the moment of a command as well: one that is older stays older.
        start(&mut asked.sent, ttl + millisecond);
    }
    if let Some(at) = &mut lease.asked_at {
        start(at, lease.timing.renew_every());
    }
    if let Some(Write { sent: Some(sent), .. }) = &mut lease.write {
        start(sent, ttl);
    }
    if let Some((_, sent)) = &mut lease.plea {
        start(sent, ttl);
    }
    if let Some(watch) = &mut lease.watch {
        start(&mut watch.since, longest);
    }
    match &mut lease.phase {
        Phase::Waiting(_, Taking::Force { since, .. }) => start(since, ttl),
        Phase::Draining(_, at) => start(&mut at.closed_at, drain),
        Phase::Resuming { since, .. } => start(since, ttl),
        _ => {}
    }
}

/// Whether what this site let in may still be at work: since its gate closed, what runs has D to end.
pub fn may_serve(lease: &Lease) -> bool {
    let lingers = match lease.phase {
        Phase::Live(held) => held.valid_until.is_some_and(|until| NOW < until),
        Phase::Draining(held, at) => {
            held.valid_until.is_some_and(|until| NOW < until) && NOW < at.closed_at + lease.timing.drain()
        }
        _ => false,
    };
    lingers || lease.gate_is_open(NOW)
}
