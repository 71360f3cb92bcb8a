//! The rules that tests break one by one, to see that each is needed.
//!
//! A release keeps all of them: [`Broken::keeps`] is then constantly true. The model check (`model`) breaks one, runs
//! the very same function, and must find two live sites, lost data or a write under an old term.

/// A rule of the protocol, at the one place in the code that keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// A renewal counts from before it was sent, not from its answer.
    CountFromSending,
    /// A taker's timer starts when the read is answered, not when it is sent.
    TimeFromReply,
    /// The wait is longer than the lease, for clocks that differ.
    AllowForDrift,
    /// Every write carries a nonce and a number of its own.
    FreshNonce,
    /// A process that starts is closed.
    StartClosed,
    /// The gate closes before the record says released.
    CloseBeforeRelease,
    /// Who promised not to take over does not.
    HonourPromise,
    /// No promise while an acquire may be under way.
    NoPromiseWhileAcquiring,
    /// Only a holder whose lease still runs asks the other site to let it run on.
    AskWhileValid,
    /// A takeover without the wait needs proof that the other site is fenced.
    ProveFence,
    /// A write starts only when it ends before the lease does.
    WriteFitsLease,
    /// A site that closed opens again only under the term it had.
    ReopenSameTerm,
    /// What was restored is of the term that is taken over from.
    RestoredLastTerm,
    /// What was let go is taken back only as long as no later term was seen.
    TakeBackOwnTerm,
    /// Who gave up a handing over before what is served was started has it started.
    StartBeforeOpen,
    /// The highest numbered record is never pruned.
    KeepHighest,
}

/// The rules that are broken: none, except in tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Broken {
    #[cfg(test)]
    rules: u32,
}

#[cfg(not(test))]
impl Broken {
    /// Whether the rule holds.
    #[inline]
    pub(super) fn keeps(self, _: Rule) -> bool {
        true
    }
}

#[cfg(test)]
impl Broken {
    pub(super) fn keeps(self, rule: Rule) -> bool {
        self.rules & (1 << rule as u32) == 0
    }

    pub(super) const fn none() -> Self {
        Broken { rules: 0 }
    }

    pub(super) fn these(rules: &[Rule]) -> Self {
        Broken { rules: rules.iter().fold(0, |sum, rule| sum | 1 << *rule as u32) }
    }
}
