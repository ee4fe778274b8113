//! Tests that live long, of which each run has one.

/// What the group is called where turns are told.
pub const LIVES: &str = "long lives";

/// Who takes turns.
pub const LIVED: &[&str] =
    &["a_week_of_renewals_reconnects_and_tasks", "a_long_time_of_work_leaves_nothing_behind"];
