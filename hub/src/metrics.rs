//! What is counted for the operator, in Prometheus's text format.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $help:literal])* $name:ident,)+) => {
        /// Counters since the hub was started.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[doc = $help])* pub $name: Counter,)+ }

        impl Metrics {
            /// Every counter with its name and help.
            fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($help),*), self.$name.get()),)+]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Messages from devices that were taken.
    messages_taken,
    /// Messages from devices that were refused: malformed, forged, or not theirs to send.
    messages_refused,
    /// Messages that had been taken before.
    messages_replayed,
    /// Frames sent to devices.
    frames_sent,
    /// Signatures made over batches of frames.
    batches_signed,
    /// Devices enrolled.
    devices_enrolled,
    /// Enrolments refused.
    enrolments_refused,
    /// Jobs submitted.
    jobs_submitted,
    /// Assignments made.
    assignments_made,
    /// Assignments whose lease ran out.
    assignments_lapsed,
    /// Results that were accepted.
    results_accepted,
    /// Results that were wrong.
    results_wrong,
    /// Vouchers issued.
    vouchers_issued,
    /// Uploads of content that were refused for lack of room, or of a right to more of it.
    content_refused,
    /// Pieces of content that nothing needed any more and that were removed.
    content_collected,
    /// Bytes of these.
    content_collected_bytes,
}

impl Metrics {
    /// The text that `/metrics` answers, with gauges of the present beside the counters.
    #[must_use]
    pub fn prometheus(&self, gauges: &[(&str, &str, u64)]) -> String {
        let counters = self.all().into_iter().map(|(name, help, value)| {
            let help = help.trim();
            format!("# HELP sosna_{name}_total {help}\n# TYPE sosna_{name}_total counter\nsosna_{name}_total {value}\n")
        });
        let gauges = gauges.iter().map(|(name, help, value)| {
            format!("# HELP sosna_{name} {help}\n# TYPE sosna_{name} gauge\nsosna_{name} {value}\n")
        });
        counters.chain(gauges).collect()
    }
}
