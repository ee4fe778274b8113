//! What a swarm has seen, counted as its devices see it: sessions, work, verdicts, money, and how long things took.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use sosna_protocol::{Amount, message::result::Judgement};

use crate::conduct::Conduct;

/// What a hub must not do, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breach {
    /// Offered less than was asked.
    Price,
    /// Promised another sum for an accepted result than was agreed.
    Owed,
    /// Issued a voucher that it has not signed.
    VoucherUnsigned,
    /// Issued a voucher over less than one before.
    VoucherShrinks,
    /// Issued a voucher for work of which the device has no receipt that waits for one.
    VoucherUnknown,
    /// Issued a voucher whose root is not that of the receipts that it names.
    VoucherRoot,
    /// Issued a voucher that does not rise by what it names.
    VoucherUnderpays,
}

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Offered,
    Accepted,
    Refused,
    Ended,
    Shown,
    GivenUp,
    Acknowledged(usize),
    Judged(Judgement),
    Owed(Amount),
    Vouched(Amount),
    Breach(Breach),
}

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// From the first packet to the broker's welcome: TCP, TLS, MQTT.
    Connect,
    /// From the request for enrolment to the certificate.
    Enrol,
    /// From the greeting to the hub's.
    Greet,
    /// From a publish to the broker's acknowledgement, which the hub gives when it has it on disk.
    Publish,
}

/// What devices of one conduct have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// How many devices there are.
    pub devices: u64,
    /// Assignments that they were offered.
    pub offered: u64,
    /// Of those, accepted.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
    /// Tasks that ran to their end.
    pub ended: u64,
    /// Results that were shown.
    pub shown: u64,
    /// What the hub has taken back.
    pub given_up: u64,
    /// Verdicts by their word.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// What verdicts promise, in units of 10^-18 SNM.
    #[serde(serialize_with = "decimal")]
    pub owed: Amount,
    /// What vouchers say, in the same.
    #[serde(serialize_with = "decimal")]
    pub vouched: Amount,
}

/// Times of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A moment's figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Devices with a certificate.
    pub enrolled: u64,
    /// Devices that the hub has greeted on the session that they are in.
    pub online: u64,
    /// Sessions that the broker let in, since the beginning.
    pub sessions: u64,
    /// Attempts that failed, and sessions that ended without the device's wish, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Frames that the hub has confirmed to have on disk.
    pub acknowledged: u64,
    /// Frames of the hub's that did not count, by reason.
    pub deaf: BTreeMap<String, u64>,
    /// What the hub did and must not.
    pub breaches: BTreeMap<Breach, u64>,
    /// By conduct.
    pub accounts: BTreeMap<Conduct, Account>,
    /// How long things took.
    pub times: BTreeMap<Span, Times>,
}

/// Counts for a whole swarm.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    figures: Figures,
    spans: BTreeMap<Span, Histogram<u64>>,
}

// === impl Tally ===

impl Tally {
    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn device(&self, conduct: Conduct) {
        self.with(|counts| counts.figures.accounts.entry(conduct).or_default().devices += 1);
    }

    pub(crate) fn enrolled(&self) {
        self.with(|counts| counts.figures.enrolled += 1);
    }

    pub(crate) fn session(&self) {
        self.with(|counts| counts.figures.sessions += 1);
    }

    pub(crate) fn online(&self, is_online: bool) {
        self.with(|counts| {
            let online = &mut counts.figures.online;
            *online = if is_online { *online + 1 } else { online.saturating_sub(1) };
        });
    }

    pub(crate) fn failure(&self, reason: String) {
        self.with(|counts| *counts.figures.failures.entry(reason).or_default() += 1);
    }

    pub(crate) fn deaf(&self, reason: String) {
        self.with(|counts| *counts.figures.deaf.entry(reason).or_default() += 1);
    }

    pub(crate) fn took(&self, span: Span, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.with(|counts| counts.spans.entry(span).or_insert_with(histogram).saturating_record(micros));
    }

    pub(crate) fn event(&self, conduct: Conduct, event: Event) {
        self.with(|counts| {
            let figures = &mut counts.figures;
            let account = figures.accounts.entry(conduct).or_default();
            let add = |sum: &mut Amount, more| *sum = sum.checked_add(more).unwrap_or(*sum);
            match event {
                Event::Offered => account.offered += 1,
                Event::Accepted => account.accepted += 1,
                Event::Refused => account.refused += 1,
                Event::Ended => account.ended += 1,
                Event::Shown => account.shown += 1,
                Event::GivenUp => account.given_up += 1,
                Event::Judged(judgement) => *account.verdicts.entry(judgement.word()).or_default() += 1,
                Event::Owed(more) => add(&mut account.owed, more),
                Event::Vouched(more) => add(&mut account.vouched, more),
                Event::Acknowledged(count) => figures.acknowledged += count as u64,
                Event::Breach(breach) => *figures.breaches.entry(breach).or_default() += 1,
            }
        });
    }

    pub(crate) fn figures(&self) -> Figures {
        self.with(|counts| {
            let times = counts.spans.iter().map(|(span, times)| (*span, Times::of(times))).collect();
            Figures { times, ..counts.figures.clone() }
        })
    }

    /// Forgets how long things took: what was measured before belongs to another phase.
    pub(crate) fn begin_times(&self) {
        self.with(|counts| counts.spans.clear());
    }
}

// === impl Times ===

impl Times {
    fn of(times: &Histogram<u64>) -> Self {
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
        Self {
            count: times.len(),
            p50_ms: ms(times.value_at_quantile(0.5)),
            p99_ms: ms(times.value_at_quantile(0.99)),
            max_ms: ms(times.max()),
        }
    }
}

// === impl Figures ===

impl Figures {
    /// Verdicts of a kind over all devices.
    #[must_use]
    pub fn verdicts(&self, judgement: Judgement) -> u64 {
        self.accounts.values().filter_map(|account| account.verdicts.get(judgement.word())).sum()
    }
}

/// From a microsecond to an hour, with two digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are in order")
}

fn decimal<S: serde::Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&amount.units())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_parts_and_can_begin_again() {
        let tally = Tally::default();
        (1..=1000).for_each(|ms| tally.took(Span::Publish, Duration::from_millis(ms)));
        let times = tally.figures().times[&Span::Publish];
        assert_eq!(times.count, 1000);
        assert!(
            (495.0..=505.0).contains(&times.p50_ms) && (985.0..=1000.0).contains(&times.p99_ms),
            "{times:?}"
        );
        tally.begin_times();
        assert!(tally.figures().times.is_empty());
    }

    #[test]
    fn figures_are_json_with_sums_as_decimal_texts() {
        let tally = Tally::default();
        tally.event(Conduct::Liar, Event::Owed(Amount::SNM));
        tally.event(Conduct::Liar, Event::Judged(Judgement::Wrong));
        tally.event(Conduct::Liar, Event::Breach(Breach::VoucherRoot));
        let figures = tally.figures();
        assert_eq!(figures.verdicts(Judgement::Wrong), 1);
        let json = serde_json::to_value(&figures).expect("figures are JSON");
        assert_eq!(json["accounts"]["liar"]["owed"], "1000000000000000000");
        assert_eq!(json["breaches"]["voucher-root"], 1);
    }
}
