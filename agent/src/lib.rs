//! The device's program: identity, uplink, tasks, receipts.
